//! A module is its descriptor: no other code needs to know it.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::notes;
    use crate::store::Store;
    use pgrx::prelude::*;

    fn value<T: FromDatum + IntoDatum>(sql: &str) -> T {
        Spi::get_one(sql).expect("a query").expect("a value")
    }

    #[pg_test]
    fn a_module_is_added_listed_verified_and_dropped() {
        Spi::run("SELECT modelstore.create_store()").expect("made");
        assert_eq!(
            value::<Vec<String>>("SELECT modules FROM modelstore.stores()"),
            ["models", "tensors", "training"]
        );
        assert!(!Store::current().expect("a store").has(&notes::MODULE));
        let added = value::<String>("SELECT modelstore.add_module('notes')");
        assert_eq!(added, "notes");
        assert_eq!(
            value::<Vec<String>>("SELECT modules FROM modelstore.stores()"),
            ["models", "tensors", "training", "notes"]
        );
        Spi::run("SELECT modelstore.add_note('hello')").expect("added");
        assert_eq!(value::<String>("SELECT note FROM store.v_notes"), "hello");
        let problems = "SELECT count(*) FROM modelstore.verify_store()";
        assert_eq!(value::<i64>(problems), 0);
        Spi::run("UPDATE store.notes SET length = 10").expect("damaged");
        assert_eq!(
            value::<String>("SELECT object || ' ' || problem FROM modelstore.verify_store()"),
            "note hello is too short"
        );
        Spi::run("DELETE FROM store.notes; SELECT modelstore.drop_store('store')")
            .expect("dropped");
        assert_eq!(
            value::<i64>("SELECT count(*) FROM pg_namespace WHERE nspname = 'store'"),
            0
        );
    }

    #[pg_test(error = "cannot drop store \"store\" because it is not empty")]
    fn what_a_module_holds_is_not_dropped() {
        Spi::run("SELECT modelstore.create_store(modules => ARRAY['notes'])").expect("made");
        Spi::run("SELECT modelstore.add_note('kept')").expect("added");
        Spi::run("SELECT modelstore.drop_store('store')").expect("refused");
    }

    #[pg_test(error = "cannot delete model \"m\" version \"1\" because other data depends on it")]
    fn what_depends_on_a_model_is_not_deleted_with_it() {
        Spi::run("SELECT modelstore.create_store(modules => ARRAY['notes'])").expect("made");
        let model = "SELECT modelstore.register_model('m', '1')::text";
        let model = value::<String>(model);
        Spi::run(&format!("SELECT modelstore.add_note('{model}')")).expect("added");
        Spi::run(&format!("SELECT modelstore.delete_model('{model}')")).expect("refused");
    }

    #[pg_test(error = "store \"store\" does not have module \"notes\"")]
    fn a_module_that_is_missing_is_named() {
        Spi::run("SELECT modelstore.create_store()").expect("made");
        Spi::run("SELECT modelstore.add_note('lost')").expect("refused");
    }

    #[pg_test]
    fn every_table_of_an_opt_in_module_has_its_mark() {
        Spi::run("SELECT modelstore.create_store(modules => ARRAY['all'])").expect("made");
        let store = Store::current().expect("a store");
        for (module, relations) in crate::store::ddl::modules().filter(|(m, _)| !m.is_core) {
            assert!(store.has(module));
            for table in &relations.tables {
                let marked = format!(
                    "SELECT count(*) FROM pg_constraint WHERE conrelid = 'store.{}'::regclass AND conname = '{}'",
                    table.name,
                    module.mark()
                );
                assert_eq!(value::<i64>(&marked), 1, "{}", table.name);
            }
        }
    }

    #[pg_test(error = "schema \"store\" is not a store: table \"notes\" has no column \"length\"")]
    fn the_tables_of_a_module_are_checked() {
        Spi::run("SELECT modelstore.create_store(modules => ARRAY['all'])").expect("made");
        Spi::run("ALTER TABLE store.notes DROP COLUMN length").expect("changed");
        Spi::run("SELECT modelstore.add_note('lost')").expect("refused");
    }
}
