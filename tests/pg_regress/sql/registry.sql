-- The registry: models, aliases, lineage, deletion. Keys are random, so names are shown.
SET search_path TO public, modelstore;
SELECT create_store();
CREATE FUNCTION name(uuid) RETURNS text LANGUAGE sql AS $$ SELECT model_name || ' ' || version FROM store.models WHERE model_id = $1 $$;

SELECT register_model('base', '1') IS NOT NULL AS made;
SELECT register_model('base', '2', parent => find_model('base', '1'), architecture => 'bert', config => '{"hidden_size": 8}',
                      metadata => '{"note": "x"}', derivation => 'fine-tune') IS NOT NULL AS made;
SELECT register_model('base', '3', find_model('base', '2'), derivation => 'prune') IS NOT NULL AS made;
SELECT register_model('Base', '1') IS NOT NULL AS made;
SELECT model_name, version, name(parent_model_id) AS parent, derivation, architecture, config, metadata, status, created_by = current_user AS mine,
       substr(model_id::text, 15, 1) AS uuid_version
FROM store.models ORDER BY model_name COLLATE "C", version;
SELECT register_model('base', '1');
SELECT register_model('', '1');
SELECT register_model('m', '');
SELECT register_model(NULL, '1');
SELECT register_model('m', NULL);
SELECT register_model('m', '1', '00000000-0000-0000-0000-000000000000');
SELECT register_model(E'a\nb', '1');
SELECT register_model('m', repeat('long', 300));
SELECT name(find_or_register_model('base', '3', derivation => 'other')), name(find_or_register_model('base', '4'));

-- by name
SELECT name(find_model('base')), name(find_model('base', '1')), name(find_model('Base')), name(find_model('base', NULL));
SELECT find_model(NULL);
SELECT find_model('base', '5');
SELECT find_model('nothing');
SELECT name(set_alias('base:1', 'production'));
SELECT name(find_model('base', 'production'));
SELECT name(set_alias('base:2', 'production')), name(set_alias('base:1', 'latest'));
SELECT name(find_model('base', 'production')), name(find_model('base')), name(find_model('base', '3'));
SELECT model_name, alias, name(model_id) FROM store.model_aliases ORDER BY alias;
SELECT set_alias('base:9', 'production');
SELECT set_alias('base:1', '');
SELECT delete_alias('base', 'latest'), delete_alias('base', 'latest'), delete_alias('nothing', 'x');
SELECT name(find_model('base'));

-- lineage
SELECT depth, model_name, version, derivation FROM lineage(find_model('base', '3'));
SELECT depth, model_name, version, derivation FROM lineage(find_model('base', '1'));
SELECT * FROM lineage('00000000-0000-0000-0000-000000000000');
-- a loop that only a hand can make ends all the same
UPDATE store.models SET parent_model_id = find_model('base', '3') WHERE model_name = 'base' AND version = '1';
SELECT depth, model_name, version FROM lineage(find_model('base', '2'));
UPDATE store.models SET parent_model_id = NULL WHERE model_name = 'base' AND version = '1';
\set VERBOSITY sqlstate
UPDATE store.models SET parent_model_id = model_id WHERE version = '3';
\set VERBOSITY verbose

-- without weights
SELECT * FROM calculate_model_parameters(find_model('base', '1'));
SELECT * FROM calculate_model_parameters('00000000-0000-0000-0000-000000000000');
SELECT model_name, version, architecture, layers, attention_heads, hidden_size, weights, parameters, raw_bytes, stored_bytes, status
FROM store.v_model_architecture ORDER BY model_name COLLATE "C", version;
SELECT * FROM verify_model(find_model('base', '1'));
\set VERBOSITY sqlstate
SELECT get_tensor(find_model('base', '1'), 'w') IS NULL;
SELECT embedding(find_model('base', '1'), '{0}') IS NULL;
SELECT export_safetensors(find_model('base', '1')) IS NULL;

\set VERBOSITY verbose
-- what can be changed
SELECT name(set_model_metadata(find_model('base', '1'), '{"license": "MIT"}')), archive_model(find_model('base', '4'));
SELECT model_name, version, metadata, status FROM store.models WHERE version IN ('1', '4') ORDER BY model_name COLLATE "C", version;
SELECT name(find_model('base'));
SELECT archive_model(find_model('base', '4'), archived => false);
SELECT rename_model('Base', 'base');
SELECT rename_model('base', 'root'), rename_model('root', 'base');
-- deletion: what others may miss goes only with cascade; descendants stay, aliases go
SELECT delete_model(find_model('base', '4'));
\set VERBOSITY sqlstate
SELECT delete_model(find_model('base', '2'));
\set VERBOSITY verbose
SELECT * FROM delete_model(find_model('base', '2'), cascade => true);
SELECT model_name, version, name(parent_model_id) AS parent FROM store.models ORDER BY model_name COLLATE "C", version;
SELECT count(*) FROM store.model_aliases;
SELECT delete_model('00000000-0000-0000-0000-000000000000');
SELECT delete_model(NULL);
-- what the tables themselves refuse
\set VERBOSITY sqlstate
INSERT INTO store.models (model_id, model_name, version, status) VALUES (gen_random_uuid(), 'm', '1', 'odd');
INSERT INTO store.models (model_id, model_name, version, content_hash) VALUES (gen_random_uuid(), 'm', '1', '\x00');
