-- Atoms: hostile literals first, then what the functions answer.
SELECT modelstore.create_store(modules => ARRAY['atoms']);
SELECT '(1,2)'::modelstore.atom;
SELECT '(1,2,3,4)'::modelstore.atom;
SELECT '(a,2,3)'::modelstore.atom;
SELECT '(99999999999999999999,2,3)'::modelstore.atom;
SELECT ''::modelstore.atom;
SELECT '(,,)'::modelstore.atom IS NULL AS all_null;
SELECT modelstore.reconstruct(NULL);
SELECT modelstore.reconstruct('(,,)');
SELECT modelstore.reconstruct('(1,,3)');
SELECT modelstore.reconstruct('(-1,0,0)');
SELECT modelstore.reconstruct('(576460752303423488,0,0)');
SELECT modelstore.reconstruct('(0,1,0)');
SELECT modelstore.reconstruct('(9223372036854775807,9223372036854775807,-9223372036854775808)');
SELECT modelstore.reconstruct('(0,0,0)');
SELECT modelstore.release('(0,0,0)');
SELECT modelstore.set_atom_meta('(0,0,0)', '{}');

-- keys
SELECT * FROM modelstore.atom_key('text', 0, 0, 0, 0);
SELECT * FROM modelstore.atom_key('other', 268435455, 268435455, 268435455, 268435455);
SELECT p.* FROM modelstore.atom_key('code', 1, 2, 3, 4) k, modelstore.atom_point(h_xy, h_yz, h_zm) p;
SELECT * FROM modelstore.atom_key('code', 268435456, 0, 0, 0);
SELECT * FROM modelstore.atom_key('code', 0, 0, -1, 0);
SELECT * FROM modelstore.atom_key('Text', 0, 0, 0, 0);
SELECT * FROM modelstore.atom_point(0, 1, 0);
SELECT modelstore.atom_place(0, 1, 0);
SELECT modelstore.atom_place(0, 0, 0);
INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length) VALUES (0, 1, 0, 0, sha256(''), 0);
INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length, created_at, updated_at) VALUES (0, 0, 0, 1, sha256(''), 0, 'epoch', 'epoch');
INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length) VALUES (1::bigint << 59, 0, 0, 8, sha256(''), 0);

-- taking in
SELECT status FROM modelstore.ingest(NULL::bytea);
SELECT status FROM modelstore.ingest(''::bytea, NULL);
SELECT status FROM modelstore.ingest(''::bytea, 'novel');
SELECT status, error FROM modelstore.ingest_large_object(0);
SELECT status, h_xy, byte_length, created, updated, skipped FROM modelstore.ingest_text('');
SELECT status, h_xy, h_yz, h_zm, byte_length, created FROM modelstore.ingest_text('The same on every machine.');
SELECT content_index, byte_length, is_new FROM modelstore.ingest_many(ARRAY['a', '', 'a']::bytea[], 'text');
SELECT count(*) FROM modelstore.ingest_many('{}');
SELECT count(*) FROM modelstore.ingest_many(ARRAY[NULL]::bytea[]);
SELECT count(*) FROM modelstore.ingest_many(NULL);
SELECT modelstore.queue_ingest(NULL);
SELECT modelstore.queue_ingest(1, 'novel');
SELECT * FROM modelstore.run_queued_ingests(-1);
SELECT modelstore.queue_ingest(1, batch_id => 'f47ac10b-58cc-4372-a567-0e02b2c3d479', meta => '{"why": "golden"}') IS NOT NULL AS queued;
SELECT status, batch_id, meta, large_object FROM store.ingestion_log WHERE status = 'pending';
SELECT status, byte_length, error FROM modelstore.run_queued_ingests();

-- parts of a content
SELECT h_xy, h_yz, h_zm FROM modelstore.ingest_text(E'one\ntwo\nthree') \gset
SELECT convert_from(modelstore.reconstruct_lines((:h_xy, :h_yz, :h_zm), 2), 'UTF8') AS lines;
SELECT convert_from(modelstore.reconstruct_lines((:h_xy, :h_yz, :h_zm), 0, 1), 'UTF8') AS lines;
SELECT modelstore.reconstruct_lines((:h_xy, :h_yz, :h_zm), 4);
SELECT modelstore.reconstruct_bytes((:h_xy, :h_yz, :h_zm), 5, 7);
SELECT modelstore.reconstruct_bytes((:h_xy, :h_yz, :h_zm), 7, 5);
SELECT modelstore.reconstruct_lines('(0,0,0)');
SELECT modelstore.reconstruct_lines(k) FROM modelstore.atom_key('image', 0, 0, 0, 0) i, LATERAL (SELECT ROW(i.h_xy, i.h_yz, i.h_zm)::modelstore.atom) r(k);
SELECT (f.h_xy, f.h_yz, f.h_zm) = (:h_xy, :h_yz, :h_zm) AS found FROM modelstore.find_content(E'one\\012two\\012three', 'text') f;
SELECT (f.h_xy, f.h_yz, f.h_zm) = (a.h_xy, a.h_yz, a.h_zm) AS found FROM store.atoms a, modelstore.find_atom(a.content_hash) f WHERE value = 'a';
SELECT * FROM modelstore.find_atom('\x00');
SELECT * FROM modelstore.find_atom(sha256(''));
SELECT * FROM modelstore.find_content('a', NULL);
SELECT modelstore.release((:h_xy, :h_yz, :h_zm));

-- neighbours
SELECT round(distance) AS distance, convert_from(value, 'UTF8') AS value
FROM modelstore.nearest_points(ARRAY[0, 0, 0, 0], 2) JOIN store.atoms USING (h_xy, h_yz, h_zm);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0], 1);
SELECT * FROM modelstore.nearest_points(ARRAY[[0, 0, 0, 0, 0]], 1);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0, NULL], 1);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0, -1], 1);
SELECT * FROM modelstore.nearest_points('{}'::integer[], 1);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0, 0], -1);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0, 0], NULL);
SELECT * FROM modelstore.nearest_points(ARRAY[0, 0, 0, 0], 1, 'poem');
SELECT count(*) FROM modelstore.within_box('{0,0,0,0}', '{268435455,268435455,268435455,268435455}');
SELECT * FROM modelstore.within_box('{0,0,0,1}', '{1,1,1,0}');
SELECT * FROM modelstore.within_box('{{0,0,0,0},{0,0,0,0}}', '{1,1,1,1}');
SELECT count(*) FROM modelstore.within_radius('{0,0,0,0}', 'infinity');
SELECT * FROM modelstore.within_radius('{0,0,0,0}', 'nan');
SELECT * FROM modelstore.within_radius('{0,0,0,0}', -1);

-- paths
SELECT * FROM modelstore.find_path('(0,0,0)', '(0,0,0)');
SELECT hop, cost FROM store.atoms a, modelstore.find_path((a.h_xy, a.h_yz, a.h_zm), (a.h_xy, a.h_yz, a.h_zm), 0) WHERE value = 'a';
SELECT * FROM store.atoms a, modelstore.find_path((a.h_xy, a.h_yz, a.h_zm), (a.h_xy, a.h_yz, a.h_zm), -1) WHERE value = 'a';
SELECT * FROM store.atoms a, modelstore.find_path((a.h_xy, a.h_yz, a.h_zm), (a.h_xy, a.h_yz, a.h_zm), 1, 'crow') WHERE value = 'a';
SELECT * FROM store.atoms a, modelstore.find_path((a.h_xy, a.h_yz, a.h_zm), (a.h_xy, a.h_yz, a.h_zm), 1, 'astar', '{road}') WHERE value = 'a';

-- letting go
SELECT modelstore.release((h_xy, h_yz, h_zm)) FROM store.atoms WHERE value = 'a';
SELECT modelstore.release((h_xy, h_yz, h_zm)) FROM store.atoms WHERE value = 'a';
SELECT modelstore.release((h_xy, h_yz, h_zm)) FROM store.atoms WHERE value = 'a';
SELECT * FROM modelstore.atoms_gc();
SELECT modelstore.enable_postgis();
SELECT modelstore.drop_store('store');
SELECT modelstore.drop_store('store', true);
