-- Stores: made, listed, chosen, upgraded, dropped.
-- without one, whatever needs one says what to do
SELECT modelstore.register_model('m', '1');
SELECT modelstore.store_version();
SELECT modelstore.upgrade_store();
SELECT * FROM modelstore.space_report();
SELECT * FROM modelstore.stores();

SELECT modelstore.create_store();
SELECT modelstore.create_store();
SELECT modelstore.store_version(), modelstore.upgrade_store(), modelstore.store_version('store');
SELECT version, extension_version <> '' AS recorded, installed_at <= now() AS before FROM store.store_version;
SELECT relname, relkind FROM pg_class WHERE relnamespace = 'store'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition ORDER BY relname;
-- nothing in it is without a comment, and nothing belongs to the extension
SELECT c.relname, a.attname FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND relkind IN ('r', 'p', 'm')
WHERE relnamespace = 'store'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition AND col_description(c.oid, coalesce(a.attnum, 0)) IS NULL AND obj_description(c.oid) IS NULL;
SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_class'::regclass
AND objid IN (SELECT oid FROM pg_class WHERE relnamespace = 'store'::regnamespace);

-- modules
SELECT modelstore.create_store('store', if_not_exists => true);
SELECT modelstore.create_store('other', ARRAY['atoms']);
SELECT store, modules FROM modelstore.stores() ORDER BY store;
SELECT * FROM modelstore.nearest_points('{1,2,3,4}'::integer[]);
SELECT modelstore.add_module('atoms', partitions => 7);
SELECT modelstore.add_module('atoms', 'other');
SELECT modelstore.add_module('atoms', 'other', if_not_exists => true);
SELECT modelstore.add_module('training', partitions => 8);
SELECT modelstore.add_module(NULL);
SELECT modelstore.add_module('atoms', 'nowhere');
SELECT modelstore.create_store('third', ARRAY['atoms', NULL]);
SELECT modelstore.create_store('third', NULL);
SELECT modelstore.add_module('atoms', partitions => 8);
SELECT * FROM modelstore.nearest_points('{1,2,3,4}'::integer[]);
SELECT relname FROM pg_class WHERE relnamespace = 'store'::regnamespace AND relispartition AND relkind = 'r' ORDER BY relname;
SELECT modelstore.drop_store('other');
-- in what words, depends on the modules of the library
\set VERBOSITY sqlstate
SELECT modelstore.add_module('dreams');
SELECT modelstore.create_store('third', ARRAY['dreams']);
\set VERBOSITY verbose

-- names
SELECT modelstore.create_store('');
SELECT modelstore.create_store(repeat('x', 64));
SELECT modelstore.create_store('modelstore');
SELECT modelstore.create_store('pg_store');
SELECT modelstore.create_store('pg_catalog');
SELECT modelstore.create_store(NULL);
SELECT modelstore.create_store(repeat('x', 63)) = repeat('x', 63);
SELECT modelstore.create_store('My "odd"; store''s name$1 @store@');
CREATE SCHEMA taken;
CREATE TABLE taken.models (i integer);
SELECT modelstore.create_store('taken');
CREATE SCHEMA shared;
CREATE TABLE shared.mine AS SELECT 1 AS i;
SELECT modelstore.create_store('shared');
SELECT store, owner, is_current FROM modelstore.stores() WHERE length(store) < 63;

-- one at a time, found by its name whatever the search_path
SET modelstore.store = 'My "odd"; store''s name$1 @store@';
SET search_path = pg_catalog;
SELECT modelstore.register_model('m', '1') IS NOT NULL AS made;
SELECT model_name FROM "My ""odd""; store's name$1 @store@".models;
SELECT modelstore.find_model('m') = model_id FROM "My ""odd""; store's name$1 @store@".models;
SELECT store FROM modelstore.stores() WHERE is_current;
SET modelstore.store = 'shared';
SELECT modelstore.find_model('m');
SELECT modelstore.register_model('m', '1') IS NOT NULL AS made;
SET modelstore.store = 'no''where';
SELECT modelstore.register_model('m', '1');
SET modelstore.store = '';
SELECT modelstore.register_model('m', '1');
SET modelstore.store = 'taken';
SELECT modelstore.register_model('m', '1');
RESET modelstore.store;
RESET search_path;
SET modelstore.stor = 'x';
-- in what words, depends on the server's version
\set VERBOSITY sqlstate
SET modelstore.threads = 0;
SET modelstore.chunk_size = '100kB';
SET modelstore.chunk_size = '8MB';
\set VERBOSITY verbose
SET modelstore.chunk_size = '2MB';
SHOW modelstore.chunk_size;
SELECT name, setting, unit, min_val, max_val, context, boot_val FROM pg_settings WHERE name LIKE 'modelstore.%' ORDER BY name;

-- newer than the library
INSERT INTO shared.store_version (version, extension_version) VALUES (1000, 'future');
SELECT modelstore.store_version('shared');
SELECT modelstore.upgrade_store('shared');

-- dropped
\set VERBOSITY terse
SELECT modelstore.drop_store('nowhere');
SELECT modelstore.drop_store('taken');
SELECT modelstore.drop_store(NULL);
SELECT modelstore.drop_store('My "odd"; store''s name$1 @store@');
SET client_min_messages = warning;
SELECT modelstore.drop_store('My "odd"; store''s name$1 @store@', cascade => true);
SELECT modelstore.drop_store('store');
SELECT store FROM modelstore.stores() WHERE length(store) < 63;
SELECT modelstore.register_model('m', '1');
-- the same session goes on with a store of the same name
SELECT modelstore.create_store();
SELECT modelstore.register_model('m', '1') IS NOT NULL AS made;
-- tables of the user's own keep the extension from going
DROP EXTENSION pg_modelstore;
