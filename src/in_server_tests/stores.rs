//! Stores, their names, the plans on their tables, the settings.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::message;
    use crate::pg::query;
    use crate::settings;
    use crate::store::Store;
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    fn count(store: &Store) -> i64 {
        let counted = store.row(
            "SELECT count(*) FROM @store@.models WHERE model_name = $1",
            &[crate::pg::arguments::text("m")],
            |row| row.get(1),
        );
        counted.expect("a query").expect("a row")
    }

    #[pg_test]
    fn plans_survive_a_store_that_is_dropped_and_made_again() {
        for round in 0..2 {
            Spi::run("SELECT modelstore.create_store()").expect("made");
            let store = Store::current().expect("it is there");
            assert_eq!(count(&store), 0);
            Spi::run("SELECT modelstore.register_model('m', '1')").expect("registered");
            assert_eq!(count(&store), 1, "round {round}");
            Spi::run("SELECT modelstore.drop_store('store', true)").expect("dropped");
            assert!(!store.exists());
        }
    }

    #[pg_test]
    fn plans_of_different_stores_do_not_mix() {
        Spi::run("SELECT modelstore.create_store('a'); SELECT modelstore.create_store('b')")
            .expect("made");
        Spi::run("SET LOCAL modelstore.store = 'b'; SELECT modelstore.register_model('m', '1')")
            .expect("registered");
        let (a, b) = (Store::named("a"), Store::named("b"));
        assert_eq!((count(&a), count(&b), count(&a)), (0, 1, 0));
    }

    #[pg_test]
    fn many_plans_do_not_stay_for_ever() {
        for i in 0..2100 {
            let found = query::rows(&format!("SELECT {i}"), &[], |row| row.get::<i32>(1));
            assert_eq!(found.expect("a query"), [i]);
        }
    }

    #[pg_test]
    fn a_parameter_is_never_part_of_the_text() {
        let hostile = "'; DROP TABLE x; -- $1 @store@ \" \\";
        let found = query::rows("SELECT $1", &[crate::pg::arguments::text(hostile)], |row| {
            row.get::<String>(1)
        });
        assert_eq!(found.expect("a query"), [hostile]);
    }

    #[pg_test]
    fn names_are_quoted_once() {
        let sql = |name: &str| Store::named(name).sql("SELECT * FROM @store@.x");
        assert_eq!(sql("store"), "SELECT * FROM store.x");
        assert_eq!(sql("Store"), "SELECT * FROM \"Store\".x");
        assert_eq!(sql("a\"b"), "SELECT * FROM \"a\"\"b\".x");
        assert_eq!(sql("select"), "SELECT * FROM \"select\".x");
        assert_eq!(sql("@store@"), "SELECT * FROM \"@store@\".x");
        assert_eq!(sql("x; DROP"), "SELECT * FROM \"x; DROP\".x");
        assert_eq!(sql(""), "SELECT * FROM \"\".x");
    }

    #[pg_test]
    fn relations_are_found_in_the_store_only() {
        Spi::run("SELECT modelstore.create_store('a'); CREATE TEMPORARY TABLE models ()")
            .expect("made");
        let store = Store::named("a");
        assert!(store.exists());
        let expected =
            Spi::get_one::<pg_sys::Oid>("SELECT 'a.models'::regclass::oid").expect("a query");
        assert_eq!(Some(store.relation_oid("models")), expected);
        assert_eq!(store.relation_oid("pg_class"), pg_sys::InvalidOid);
        assert_eq!(store.relation_oid("mod\0els"), pg_sys::InvalidOid);
        assert!(!Store::named("A").exists() && !Store::named("pg_catalog").exists());
    }

    #[pg_test]
    fn a_null_where_none_may_be_is_an_error() {
        assert!(
            message(query::rows("SELECT NULL::integer", &[], |row| row.get::<i32>(1)))
                .contains("null in column 1")
        );
        let found = query::rows("SELECT NULL::integer", &[], |row| row.opt::<i32>(1));
        assert_eq!(found.expect("a query"), [None]);
    }

    #[pg_test]
    fn settings_are_read_as_they_are_now() {
        let defaults = (
            settings::store(),
            settings::threads(),
            settings::chunk_bytes(),
        );
        assert_eq!(defaults, ("store".to_owned(), 2, 1 << 20));
        Spi::run("SET LOCAL modelstore.store = 'Ünï \"x\"'; SET LOCAL modelstore.threads = 7; SET LOCAL modelstore.chunk_size = '256kB'")
            .expect("set");
        let changed = (
            settings::store(),
            settings::threads(),
            settings::chunk_bytes(),
        );
        assert_eq!(changed, ("Ünï \"x\"".to_owned(), 7, 256 << 10));
        Spi::run("RESET modelstore.store; RESET modelstore.threads; RESET modelstore.chunk_size")
            .expect("reset");
        assert_eq!(
            (
                settings::store(),
                settings::threads(),
                settings::chunk_bytes()
            ),
            defaults
        );
    }
}
