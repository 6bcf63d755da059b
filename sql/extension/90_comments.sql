-- COMMENT ON every object of the extension; docs/api.md is made from these.
-- What it takes and gives, in which unit and shape, and the SQLSTATE of each error a caller may want to catch.

-- types

COMMENT ON TYPE tensor IS 'One tensor in one value: dtype, shape of rank 0 to 32, elements in row-major order, at most 512 MB. Text: bf16:[[1,2],[3,4]]; without a dtype in front, f32. Type modifier: an optional dtype, then dimensions, of which ''*'' or -1 is any: tensor(f32,''*'',768).';
COMMENT ON TYPE tensor_chunk IS 'One encoded piece of a stored tensor: codec, element width, raw length, payload. Text is \x and hexadecimal digits; binary is the stored form.';

-- stores

COMMENT ON FUNCTION create_store(text) IS 'Makes the tables and views of a store in the schema of this name, owned by the caller, and returns the name. 42P06 when there is one already, 42602 or 42939 for a name that no store may have.';
COMMENT ON FUNCTION upgrade_store(text) IS 'Brings the tables of a store (NULL: the current one) to the version of this library and returns that version; does nothing when they have it. 0A000 when they are newer, 3F000 when there is no such store.';
COMMENT ON FUNCTION drop_store(text, boolean) IS 'Drops a store and its schema and returns the name. 2BP01 while it holds models, unless cascade is true; 3F000 when there is no such store.';
COMMENT ON FUNCTION store_version(text) IS 'Version of the tables of a store (NULL: the current one). 3F000 when there is no such store.';
COMMENT ON FUNCTION stores() IS 'One row a store in this database: its name, the owner of its tables, whether modelstore.store names it.';

-- registry

COMMENT ON FUNCTION register_model(text, text, uuid, text, jsonb, jsonb, text) IS 'Adds a model without weights and returns its model_id; the imports do this themselves. 23505 when name and version are taken, 42704 for an unknown parent, 22023 when one of them is empty, 42622 when one is longer than 1024 bytes, 42602 for control characters.';
COMMENT ON FUNCTION find_or_register_model(text, text, uuid, text, jsonb, jsonb, text) IS 'Returns the model_id of this name and version, and registers the model first if there is none; one that exists stays as it is, whatever the other arguments say. Sessions that call it at the same time get the same model. Errors as in register_model, except for 23505.';
COMMENT ON FUNCTION find_model(text, text) IS 'Returns the model_id for a name and an alias or a version, the alias first; without one, or for NULL, the newest version that is not archived. 42704 when there is none, 22004 without a name.';
COMMENT ON FUNCTION delete_model(uuid, boolean) IS 'Deletes a model with its weights and files, and returns how many weights, files, runs, metrics of runs, checkpoints and aliases went, and how many models made from it stay without a parent (orphans). 2BP01 when it has more than weights and files (the DETAIL says what), unless cascade is true. Tensors and chunks that nothing else uses stay until gc(). 42704 when there is no such model, 22004 for a NULL.';
COMMENT ON FUNCTION rename_model(text, text) IS 'Renames all versions of a model and its aliases, and returns the number of versions. 23505 when the new name is taken, 42704 when there is no such model; names as in register_model.';
COMMENT ON FUNCTION set_model_metadata(uuid, jsonb) IS 'Replaces the metadata of a model (NULL: removes it) and returns the model_id. 42704 when there is no such model.';
COMMENT ON FUNCTION archive_model(uuid, boolean) IS 'Archives a model: it keeps all it has, and find_model does not give it as the latest version. With false, takes that back. Returns the status: archived, ready, or registered for a model without weights. 42704 when there is no such model.';
COMMENT ON FUNCTION set_alias(text, text, text) IS 'Points an alias of a model at one of its versions, whether the alias is new or moves, and returns the model_id it points at. 42704 when there is no such version; an alias is a name as in register_model.';
COMMENT ON FUNCTION drop_alias(text, text) IS 'Removes an alias of a model; false when there was none.';
COMMENT ON FUNCTION lineage(uuid) IS 'A model at depth 0, then its parent, and so on up to the root, with how each was made. 42704 when there is no such model.';
COMMENT ON FUNCTION calculate_model_parameters(uuid) IS 'Elements of all weights, of the trainable and of the frozen ones, and bytes of all; weights that are one parameter count once, and buffers such as running statistics and masks are frozen. Zeros for a model without weights, 42704 when there is no such model.';

-- import

COMMENT ON FUNCTION import_safetensors(text, text, bytea, jsonb, uuid, jsonb) IS 'Imports the bytes of a safetensors file as a new model. Returns the model_id, counts of weights, parameters and raw bytes, chunks and encoded bytes that are new, and raw bytes the store had. config is the model''s config.json; weights that differ from the parent''s may be stored as differences to them. A chunk the store has is decoded, and replaced with a warning when it is not what its hash says. 23505 when name and version are taken, 55000 when the bytes change while they are read; each way the file can be wrong has an SQLSTATE of its own, 42809 that it is of another format.';
COMMENT ON FUNCTION import_safetensors_large_object(text, text, oid, jsonb, uuid, jsonb) IS 'The same from a large object, which stays as it is.';
COMMENT ON FUNCTION import_safetensors_file(text, text, text, jsonb, uuid, jsonb) IS 'The same from a file of the server, by its absolute path, or from the index of a sharded model (model.safetensors.index.json, model.safetensors.index.fp16.json) with the shards beside it, all of which are stored in one write. The server process must be able to read the files. 42501 without pg_read_server_files or when the operating system refuses, 58P01 when a file is not there.';
COMMENT ON FUNCTION add_safetensors(uuid, text, bytea) IS 'Adds one more file to a model: a shard, or with a name that has .index. in it and ends in .json the index, which is checked against the shards that are there. Sessions that add to one model wait for each other. Returns the same as import_safetensors, for this file. 23505 for a file or a weight that the model has, 40001 when another session has added to it since the snapshot of a transaction at REPEATABLE READ, 42602 for a name with a folder, 42704 when there is no such model.';
COMMENT ON FUNCTION add_safetensors_large_object(uuid, text, oid) IS 'The same from a large object, which stays as it is.';
COMMENT ON FUNCTION add_safetensors_upload(uuid, text, uuid) IS 'The same from an upload, which is over afterwards.';

-- export

COMMENT ON FUNCTION export_safetensors(uuid, text) IS 'The parts of a file of a model in order, byte for byte as it was imported; without a name, the only file. In a select list they stream. The header and the list of chunks are checked against the file''s manifest hash before the first part, each chunk against its own hash as it is decoded: XX001. 42P08 when the model has several files and none is named, 42704 when it has none.';
COMMENT ON FUNCTION export_safetensors_large_object(uuid, text) IS 'Writes the same to a new large object and returns its OID.';
COMMENT ON FUNCTION export_safetensors_file(uuid, text, text) IS 'Writes the same to a new file of the server, by its absolute path, and returns its size in bytes. 42501 without pg_write_server_files, 58P02 when the file exists.';

-- upload

COMMENT ON FUNCTION begin_upload(bigint) IS 'Begins an upload, to which any session may append, and returns its id. With a size in bytes, appending more and finishing with less are refused.';
COMMENT ON FUNCTION append_upload(uuid, bytea, bigint) IS 'Appends a part of any size and returns the number of bytes received. With at_offset, 55000 unless the part begins exactly there, so that nothing is appended twice. 22023 beyond the size announced, 40001 when another session has appended since the snapshot of a transaction at REPEATABLE READ, 42704 when there is no such upload.';
COMMENT ON FUNCTION upload_offset(uuid) IS 'Bytes an upload has received: where to resume. 42704 when there is no such upload.';
COMMENT ON FUNCTION abort_upload(uuid) IS 'Forgets an upload and its parts and returns the number of bytes it had received. 42704 when there is no such upload.';
COMMENT ON FUNCTION finish_upload(uuid, text, text, jsonb, uuid, jsonb) IS 'Imports what an upload has received, as import_safetensors does, and forgets the upload. 55000 when it has less than the size announced; after an error the upload is still there.';
COMMENT ON VIEW upload IS 'COPY modelstore.upload FROM STDIN (FORMAT binary) appends the data of each row to its upload. Reading it gives no rows.';
COMMENT ON COLUMN upload.upload_id IS 'The upload, from begin_upload.';
COMMENT ON COLUMN upload.data IS 'The next part.';
COMMENT ON TRIGGER upload_append ON upload IS 'Appends each inserted row to its upload.';
COMMENT ON FUNCTION upload_append() IS 'Trigger function of the view upload. 23502 for a NULL.';

-- tensors in the store

COMMENT ON FUNCTION get_tensor(uuid, text) IS 'A weight of a model as one value, decoded and checked against its hashes. 54000 above 512 MB, 42704 when there is no such model or weight, XX001 when a chunk is missing or is not what its hash says.';
COMMENT ON FUNCTION get_tensor_slice(uuid, text, text) IS 'A slice of a weight, in numpy''s notation (''0:10, :''), from the blocks that hold it; these are not checked against the hash of their chunk. 22023 for a malformed slice or a step below 1, 2202E for an index or a number of dimensions that the weight does not have, 42704 when there is no such model or weight.';
COMMENT ON FUNCTION reconstruct_tensor(uuid) IS 'A stored tensor by its tensor_id as one value, decoded and checked as by get_tensor. 42704 when there is no such tensor.';
COMMENT ON FUNCTION embedding(uuid, text, bigint[]) IS 'Rows of an embedding of a model (kind token, position or segment), one for each id in the order given: a tensor of shape (ids, dim). 2202E for an id it does not have, 22004 for a NULL, 42704 when the model has no embedding of this kind.';
COMMENT ON FUNCTION diff_models(uuid, uuid) IS 'One row a weight of either model: same, changed, added or removed from the first to the second. For a changed one of the same shape the L2 norm and the largest magnitude of the difference and the cosine of the two; in bytes, the raw size of chunks that both have. 42704 when there is no such model.';
COMMENT ON FUNCTION find_weights_with(text, uuid) IS 'Weights of a model, or of all, that hold NaN (nan) or infinities (inf), whose elements are all equal (constant), or that have rows of nothing but zeros (dead_rows), with the number of such elements or rows. Only the last decodes anything. 22023 for another word.';

-- maintenance

COMMENT ON FUNCTION verify_model(uuid) IS 'Decodes all chunks of a model and compares chunks, zone maps and tensors with what is recorded, files with their SHA-256 and BLAKE3 hashes, and weights with the content hash. Returns one row a problem, none when all is well. 42704 when there is no such model.';
COMMENT ON FUNCTION verify_store() IS 'Decodes every chunk of the store, and compares tensors, zone maps, headers of files, content hashes of models and checkpoints, foreign keys and derived columns with each other. SHA-256 and BLAKE3 of whole files take verify_model and verify_checkpoint.';
COMMENT ON FUNCTION space_report() IS 'One row a model, in bytes: raw_bytes, what its weights, checkpoints and optimizer states would take each by itself; stored_bytes, the stored size of the chunks it uses, bases of differences included. These are weight_bytes (used by its weights) plus checkpoint_bytes (used by its checkpoints alone), and unique_bytes (what deleting it frees) plus shared_bytes (used by other models or by atoms too). delta_bytes are stored as differences; saved_bytes is raw less stored.';
COMMENT ON FUNCTION gc(boolean) IS 'Deletes tensors that nothing refers to, then chunks that no tensor and no difference needs. Returns how many went, with their raw and stored bytes; with dry_run, only counts. Runs beside imports and leaves what they have locked. Reads tables of the store''s owner only: what tables of other roles refer to stays, though dry_run counts it. A superuser, or a member of the owner''s role, collects as the owner. Checks deferred constraints at once where the store has foreign keys to it that can be deferred. 55000 when the foreign key of another role has an ON DELETE action.';

-- values

COMMENT ON FUNCTION dtype(tensor) IS 'Name of the element type, for example bf16. Reads only the head of the value.';
COMMENT ON FUNCTION shape(tensor) IS 'Dimensions, outermost first; empty for a scalar. Reads only the head of the value.';
COMMENT ON FUNCTION ndim(tensor) IS 'Number of dimensions. Reads only the head of the value.';
COMMENT ON FUNCTION numel(tensor) IS 'Number of elements. Reads only the head of the value.';
COMMENT ON FUNCTION nbytes(tensor) IS 'Bytes of the elements. Reads only the head of the value.';
COMMENT ON FUNCTION slice(tensor, text) IS 'A slice in numpy''s notation (''0:10, :'', ''..., -1'', ''::2''): negative indices count from the end, bounds of ranges are clamped. Reads from the first to the last byte it needs. 22023 for a malformed slice or a step below 1, 2202E for an index or a number of dimensions that the tensor does not have.';
COMMENT ON FUNCTION reshape(tensor, bigint[]) IS 'The same elements with other dimensions. 22000 when their product is another.';
COMMENT ON FUNCTION astype(tensor, text) IS 'The tensor in another dtype, as numpy''s astype: floats round to nearest even, quantised types are dequantised. 22003 for a number that an integer type does not have, 42846 to or from a dtype without arithmetic and to a quantised one, 42704 for an unknown dtype.';
COMMENT ON FUNCTION tobytes(tensor) IS 'The elements alone: little-endian, row-major.';
COMMENT ON FUNCTION frombuffer(bytea, text, bigint[]) IS 'A tensor of this dtype and shape from the bytes of its elements. 22000 when their number is another, 42704 for an unknown dtype.';
COMMENT ON FUNCTION norm(tensor) IS 'Euclidean norm; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION l1_norm(tensor) IS 'Sum of the magnitudes; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION linf_norm(tensor) IS 'Largest magnitude; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION sum(tensor) IS 'Sum of the elements, in double precision; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION mean(tensor) IS 'Mean of the elements; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION std(tensor) IS 'Standard deviation of the elements as a population; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION min(tensor) IS 'Smallest element; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION max(tensor) IS 'Largest element; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';

COMMENT ON FUNCTION codec(tensor_chunk) IS 'How a chunk is encoded: raw, constant, planes or delta. Reads only the head of the value.';
COMMENT ON FUNCTION raw_size(tensor_chunk) IS 'Bytes that a chunk decodes to. Reads only the head of the value.';
COMMENT ON FUNCTION stored_size(tensor_chunk) IS 'Bytes of the chunk as it is encoded. Reads none of it.';
COMMENT ON FUNCTION base_hash(tensor_chunk) IS 'BLAKE3-256 of the chunk that a delta is a difference to; NULL for another codec. Reads only the head of the value.';
COMMENT ON FUNCTION decode(tensor_chunk) IS 'The raw bytes of a chunk. 22023 for a delta, whose base only the store has.';

-- tensor operators

COMMENT ON OPERATOR = (tensor, tensor) IS 'Equal in dtype, shape and bits: NaN equals the same NaN, 0 differs from -0.';
COMMENT ON OPERATOR <> (tensor, tensor) IS 'Different in dtype, shape or bits.';
COMMENT ON OPERATOR < (tensor, tensor) IS 'Comes first by dtype, number of dimensions, dimensions, then elements in row-major order; floats in the total order of IEEE 754.';
COMMENT ON OPERATOR <= (tensor, tensor) IS 'Comes first, or is equal.';
COMMENT ON OPERATOR > (tensor, tensor) IS 'Comes later.';
COMMENT ON OPERATOR >= (tensor, tensor) IS 'Comes later, or is equal.';
COMMENT ON OPERATOR CLASS tensor_ops USING btree IS 'The order of tensors, for ORDER BY, DISTINCT, merge joins and indexes of small values.';
COMMENT ON OPERATOR FAMILY tensor_ops USING btree IS 'The order of tensors.';
COMMENT ON OPERATOR CLASS tensor_hash_ops USING hash IS 'Hashing of tensors by dtype, shape and bits, for hash indexes, joins and GROUP BY.';
COMMENT ON OPERATOR FAMILY tensor_hash_ops USING hash IS 'Hashing of tensors by dtype, shape and bits.';

-- tensor casts

COMMENT ON CAST (tensor AS tensor) IS 'Enforces the type modifier, such as tensor(f32,768), on assignment. 22000 when dtype or shape is another.';
COMMENT ON CAST (real[] AS tensor) IS 'An f32 tensor with the dimensions of the array; the empty array is of shape (0). 22004 for an array with a NULL.';
COMMENT ON CAST (double precision[] AS tensor) IS 'An f64 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (numeric[] AS tensor) IS 'A tensor with the dimensions of the array, of the dtype that the type modifier names, or f64; each number is rounded once. 22004 for an array with a NULL, 22003 for a number that an integer dtype does not have.';
COMMENT ON CAST (integer[] AS tensor) IS 'An i32 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (bigint[] AS tensor) IS 'An i64 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (jsonb AS tensor) IS 'Nested lists of numbers as f32, or an object with "dtype", "shape" and "data". 22P02 for anything else.';
COMMENT ON CAST (bytea AS tensor) IS 'The binary form with its header, as the cast to bytea gives it. 22P03 when it is not one.';
COMMENT ON CAST (tensor AS real[]) IS 'The elements as real, converted as by astype. 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS double precision[]) IS 'The elements as double precision, converted as by astype. 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS integer[]) IS 'The elements as integer, converted as by astype. 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS bigint[]) IS 'The elements as bigint, converted as by astype. 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS jsonb) IS 'An object with "dtype", "shape" and "data"; what JSON numbers cannot say, such as NaN, is a string.';
COMMENT ON CAST (tensor AS bytea) IS 'The binary form with its header, as in docs/formats.md; tobytes gives the elements alone.';

-- functions behind types, casts and operators

COMMENT ON FUNCTION tensor_in(cstring, oid, integer) IS 'Reads the text form of tensor.';
COMMENT ON FUNCTION tensor_out(tensor) IS 'Writes the text form of tensor.';
COMMENT ON FUNCTION tensor_recv(internal, oid, integer) IS 'Reads the binary form of tensor.';
COMMENT ON FUNCTION tensor_send(tensor) IS 'Writes the binary form of tensor.';
COMMENT ON FUNCTION tensor_typmod_in(cstring[]) IS 'Reads the type modifier of tensor.';
COMMENT ON FUNCTION tensor_typmod_out(integer) IS 'Writes the type modifier of tensor.';
COMMENT ON FUNCTION tensor_enforce_typmod(tensor, integer, boolean) IS 'The cast from tensor to tensor.';
COMMENT ON FUNCTION tensor_chunk_in(cstring, oid, integer) IS 'Reads the text form of tensor_chunk.';
COMMENT ON FUNCTION tensor_chunk_out(tensor_chunk) IS 'Writes the text form of tensor_chunk.';
COMMENT ON FUNCTION tensor_chunk_recv(internal, oid, integer) IS 'Reads the binary form of tensor_chunk.';
COMMENT ON FUNCTION tensor_chunk_send(tensor_chunk) IS 'Writes the binary form of tensor_chunk.';
COMMENT ON FUNCTION tensor_from_real(real[], integer, boolean) IS 'The cast from real[] to tensor: f32, or the dtype of the type modifier, as astype converts.';
COMMENT ON FUNCTION tensor_from_double(double precision[], integer, boolean) IS 'The cast from double precision[] to tensor: f64, or the dtype of the type modifier.';
COMMENT ON FUNCTION tensor_from_integer(integer[], integer, boolean) IS 'The cast from integer[] to tensor: i32, or the dtype of the type modifier.';
COMMENT ON FUNCTION tensor_from_bigint(bigint[], integer, boolean) IS 'The cast from bigint[] to tensor: i64, or the dtype of the type modifier.';
COMMENT ON FUNCTION tensor_from_numeric(numeric[], integer, boolean) IS 'The cast from numeric[] to tensor: f64, or the dtype of the type modifier; each number is rounded once.';
COMMENT ON FUNCTION tensor_from_jsonb(jsonb) IS 'The cast from jsonb to tensor.';
COMMENT ON FUNCTION tensor_from_bytea(bytea) IS 'The cast from bytea to tensor.';
COMMENT ON FUNCTION tensor_to_real(tensor) IS 'The cast from tensor to real[].';
COMMENT ON FUNCTION tensor_to_double(tensor) IS 'The cast from tensor to double precision[].';
COMMENT ON FUNCTION tensor_to_integer(tensor) IS 'The cast from tensor to integer[].';
COMMENT ON FUNCTION tensor_to_bigint(tensor) IS 'The cast from tensor to bigint[].';
COMMENT ON FUNCTION tensor_to_jsonb(tensor) IS 'The cast from tensor to jsonb.';
COMMENT ON FUNCTION tensor_to_bytea(tensor) IS 'The cast from tensor to bytea.';
COMMENT ON FUNCTION tensor_eq(tensor, tensor) IS 'The operator = of tensor.';
COMMENT ON FUNCTION tensor_ne(tensor, tensor) IS 'The operator <> of tensor.';
COMMENT ON FUNCTION tensor_lt(tensor, tensor) IS 'The operator < of tensor.';
COMMENT ON FUNCTION tensor_le(tensor, tensor) IS 'The operator <= of tensor.';
COMMENT ON FUNCTION tensor_gt(tensor, tensor) IS 'The operator > of tensor.';
COMMENT ON FUNCTION tensor_ge(tensor, tensor) IS 'The operator >= of tensor.';
COMMENT ON FUNCTION tensor_cmp(tensor, tensor) IS 'Order of two tensors: -1, 0 or 1.';
COMMENT ON FUNCTION tensor_hash_extended(tensor, bigint) IS 'Hash of 64 bits with a seed, equal for equal tensors.';
COMMENT ON FUNCTION tensor_hash(tensor) IS 'Hash of a tensor, equal for equal tensors.';

-- zone maps
COMMENT ON FUNCTION zone_mean(bigint[], double precision[]) IS 'Mean of numbers that come in pieces: how many each piece has, and their mean there. Pieces with a NULL are left out; NULL when there is no number. Overflow gives Infinity, not an error. For v_weight_statistics.';
COMMENT ON FUNCTION zone_std(bigint[], double precision[], double precision[]) IS 'Standard deviation, as a population, of numbers that come in pieces: how many each piece has, their mean and their standard deviation there. For v_weight_statistics.';
COMMENT ON FUNCTION zone_l2(bigint[], double precision[], double precision[]) IS 'Euclidean norm of numbers that come in pieces, from the same figures as zone_std. For v_weight_statistics.';

-- pgvector
COMMENT ON FUNCTION enable_pgvector() IS 'Makes the casts between tensor and pgvector''s vector (f32) and halfvec (f16) that are not there, and returns how many it made. From tensor explicit, to tensor on assignment. Error 42704 without pgvector. Casts belong to whoever owns a type, so a superuser calls it.';

-- training state
COMMENT ON FUNCTION start_training(uuid, jsonb, text, bigint, text, text, uuid) IS 'Starts a run of a model and returns its key. loss_metric names the metric v_training_progress shows; host is the client''s address unless given; resume_from is the checkpoint, of any run, that it continues: the parent of its first checkpoint. 42704 for an unknown model or checkpoint, 23505 when the model has a run of that name.';
COMMENT ON FUNCTION find_or_start_training(uuid, text, jsonb, bigint, text, text, uuid) IS 'Returns the run of that name of a model and starts it when there is none; the other arguments, those of start_training, are for a new run only. Two sessions that ask at once get one run: names are unique among the runs of a model. A run that has ended is returned as it is: reopen_training lets it go on.';
COMMENT ON FUNCTION finish_training(uuid, text, text) IS 'Ends a run as completed, failed or cancelled and returns how long it took. 55000 when it has ended already.';
COMMENT ON FUNCTION reopen_training(uuid) IS 'Makes a run that has ended a running one again and returns whether it had ended; its metrics and checkpoints stay. A run takes none after its end.';
COMMENT ON FUNCTION delete_training(uuid, boolean) IS 'Deletes a run with its checkpoints, metrics and plans and returns how many there were. Without cascade it refuses a run that has checkpoints or metrics: 2BP01. Pinned checkpoints go too; runs that continue one of them then continue the checkpoint before it that remains. gc() frees the bytes.';
COMMENT ON FUNCTION log_metrics(uuid, bigint, jsonb, double precision) IS 'Records the figures of one step, an object of names and numbers, and returns how many. The strings "NaN", "Infinity" and "-Infinity" stand for what JSON lacks. 22023 for anything else, 22003 for a number beyond double precision, 55000 for a run that has ended.';
COMMENT ON FUNCTION log_metric(uuid, text, bigint[], double precision[]) IS 'Records one metric at many steps and returns how many. Of a step given twice the later value counts. 2202E when the arrays differ in length, 55000 for a run that has ended.';
COMMENT ON FUNCTION drop_metrics(uuid) IS 'Removes the metrics of a run, which lie in one partition, and returns how many. The run stays.';
COMMENT ON FUNCTION metric_plot(uuid, text, boolean, integer, integer) IS 'One metric of a run over its steps as an SVG document of width by height pixels. Of a step recorded twice the later record counts. NaN and infinities are gaps; with log_scale so is what is not above zero. 42704 when the run has no such metric.';
COMMENT ON FUNCTION metric_plots(uuid[], text[], boolean, integer, integer) IS 'Metrics of several runs in one SVG document, a line for each run and metric, with a legend.';
COMMENT ON FUNCTION sparkline(double precision[], integer) IS 'Numbers as a line of block characters, at most width of them: means of equal shares. NaN and NULL are blanks.';
COMMENT ON FUNCTION create_checkpoint(uuid, uuid, bigint, double precision, bytea, bytea, jsonb, bytea, jsonb, jsonb, text[], uuid) IS 'Stores a checkpoint of a model: weights and optimizer state as safetensors bytes, the latter named parameter.state, with metrics, state of random numbers, parameter groups and metadata. Unchanged tensors take no bytes, changed ones are stored as differences to the checkpoint before where that is smaller. metrics follow the rules of log_metrics. checks overrides modelstore.checkpoint_checks; a checkpoint that fails one is refused with 23514. parent_checkpoint_id is the checkpoint it continues, of any run: by default the run''s own last or, for its first, the one the run was resumed from. Returns the number of elements of its weights, tied ones once, as parameters. 55000 for a run that has ended. Notifies the channel modelstore_checkpoint unless modelstore.notify is off. Checkpoints of one model are made one after the other.';
COMMENT ON FUNCTION create_checkpoint_large_object(uuid, uuid, bigint, double precision, oid, oid, jsonb, bytea, jsonb, jsonb, text[], uuid) IS 'The same from large objects.';
COMMENT ON FUNCTION create_checkpoint_tensors(uuid, uuid, bigint, double precision, text[], tensor[], text[], tensor[], jsonb, bytea, jsonb, jsonb, text[], uuid) IS 'The same from names and tensors, as array_agg makes them.';
COMMENT ON FUNCTION create_checkpoint_upload(uuid, uuid, bigint, double precision, uuid, uuid, jsonb, bytea, jsonb, jsonb, text[], uuid) IS 'The same from uploads, which are forgotten then.';
COMMENT ON FUNCTION put_optimizer_state(uuid, text, text, tensor) IS 'Adds one tensor of the optimizer to a checkpoint and returns the key of the tensor. 23505 when the checkpoint has it already.';
COMMENT ON FUNCTION get_optimizer_state(uuid, text, text) IS 'A tensor of the optimizer at a checkpoint, such as get_optimizer_state(id, ''encoder.weight'', ''exp_avg''). 42704 when there is none.';
COMMENT ON FUNCTION get_latest_checkpoint(uuid, uuid) IS 'The checkpoint of a model, or of one of its runs, with the highest step, then epoch, then the one made last, whatever the clock said. A run without a checkpoint has the one it was resumed from, a model without one the one it was restored from. NULL when there is none, 42704 for an unknown model or run, 22023 for a run of another model.';
COMMENT ON FUNCTION get_best_checkpoint(uuid, text, text, uuid) IS 'The checkpoint of a model, or of one of its runs, whose metrics have the smallest (min) or largest (max) figure of that name, of equal ones the newest. NaN is never best; NULL when no checkpoint has the figure.';
COMMENT ON FUNCTION checkpoint_state(uuid) IS 'What a program needs besides the tensors to go on from a checkpoint, as one row: its model and run, step, epoch, state of random numbers, parameter groups, metrics, metadata, the checkpoint it continues, and whether it has optimizer state. 42704 for an unknown checkpoint.';
COMMENT ON FUNCTION delete_checkpoint(uuid, boolean) IS 'Deletes a checkpoint and returns how many files, weights and optimizer states it had. Without cascade it refuses one that is pinned or that checkpoints, runs or models continue: 2BP01. Checkpoints that continue it continue its parent from then on. gc() frees its bytes.';
COMMENT ON FUNCTION checkpoint_weights_at(uuid) IS 'The weights of a checkpoint, with the tensor that reconstruct_tensor gives.';
COMMENT ON FUNCTION diff_checkpoints(uuid, uuid) IS 'As diff_models, for the weights of two checkpoints.';
COMMENT ON FUNCTION verify_checkpoint(uuid) IS 'As verify_model, for the weights and the optimizer state of a checkpoint.';
COMMENT ON FUNCTION restore_checkpoint(uuid, text, text, jsonb) IS 'Makes a version of the model, or of the model named, with the weights of a checkpoint and returns its key. It takes no bytes and exports as the file the checkpoint was made of. get_latest_checkpoint of the version returns the checkpoint until training makes another.';
COMMENT ON FUNCTION export_checkpoint(uuid, text) IS 'The safetensors file of a checkpoint in parts, as export_safetensors gives that of a model; optimizer.safetensors for its optimizer state.';
COMMENT ON FUNCTION prune_checkpoints(uuid, integer, bigint, integer, boolean, text, text, uuid) IS 'Deletes the checkpoints of a run, or of each run of a model by itself, that no rule keeps: the last, those whose step keep_every divides, the best by a metric. Checkpoints without a run are one more group. Always kept are pinned ones, the newest of a run that is running (by step and by when it was made), and those that another run or a model continues, or, without a run, several checkpoints. One row each with the rules that keep it: last, every, best, pinned, running, branch; NULL keeps none by a rule. gc() frees their bytes.';
COMMENT ON FUNCTION plan_gradient_checkpoints(uuid, bigint, integer, integer, integer) IS 'Which layers to recompute in the backward pass so that activations fit memory_budget bytes with least extra work; without a budget, so that they take least memory. Layers and sizes are those of the model''s weights; of a model without weights those of its newest checkpoint; else those of its config. Costs by Korthikanti et al. 2022, optimal for a chain of layers. 53000 when no plan fits.';
COMMENT ON FUNCTION set_gradient_checkpoints(uuid, bigint, integer, integer, integer) IS 'Records that plan for a run in gradient_checkpoints, in place of the one it had, and returns how many layers it has.';
COMMENT ON FUNCTION publish_delta(uuid, uuid) IS 'What leads from one model or checkpoint to another, in parts that together are one file (docs/formats.md): unchanged weights by their hash, changed ones as encoded differences. Stream it with COPY or a cursor. 55000 when the target has not just one safetensors file.';
COMMENT ON FUNCTION apply_delta(uuid, bytea, text, text) IS 'Makes the model that a delta leads to from the model or checkpoint it was published from, under its own name and version unless given, and returns what an import returns. 55000 when the base has other weights; the file it makes is checked against its BLAKE3 hash.';
COMMENT ON FUNCTION apply_delta_large_object(uuid, oid, text, text) IS 'The same from a large object.';

-- Hilbert curves
COMMENT ON FUNCTION hilbert_encode(bigint, bigint, integer) IS 'The code of cell (x, y) on the Hilbert curve of an order, 1 to 31, which fills a grid of 2^order by 2^order cells: 0 to 4^order - 1. Cells of successive codes are neighbours. At order 1 the curve goes through (0,0), (0,1), (1,1), (1,0); at every order it begins at (0,0) and ends at (2^order - 1, 0). 22003 for a cell that is not of the grid.';
COMMENT ON FUNCTION hilbert_decode(bigint, integer) IS 'The cell of a code: the inverse of hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_encode(bigint[], bigint[], integer) IS 'The codes of many cells, given as their x and their y.';
COMMENT ON FUNCTION hilbert_decode(bigint[], integer) IS 'The cells of many codes, as their x and their y.';
COMMENT ON FUNCTION hilbert_encode(bigint[], integer) IS 'The code of a cell of a grid of 2 to 8 axes, by Skilling 2004; axes times order is at most 63. With two axes it is that of hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_decode(bigint, integer, integer) IS 'The cell of a code on a grid of that many axes: the inverse of hilbert_encode(point, order).';
COMMENT ON FUNCTION hilbert_ranges(bigint, bigint, bigint, bigint, integer, integer) IS 'The ranges of codes that cover the cells of a box, corners included, in order and apart: exactly, or with at most max_ranges of them, which then cover cells beside the box as well and never miss one of it. 54000 when a box needs more than a million.';
COMMENT ON TYPE atom IS 'The key of an atom as one value: (h_xy, h_yz, h_zm). A row of three bigints becomes one where a function asks for it.';
COMMENT ON FUNCTION atom_key(text, integer, integer, integer, integer) IS 'The key of a place: a modality (text, audio, image, video, tensor, code, structured or other) and coordinates of 28 bits. 22003 for a coordinate that is out of range.';
COMMENT ON FUNCTION atom_point(bigint, bigint, bigint) IS 'The modality and the coordinates in a key. 22023 for three numbers that are no key: their codes must agree on y and on z.';
COMMENT ON FUNCTION atom_place(bigint, bigint, bigint) IS 'Where a key lies on the four-dimensional Hilbert curve of order 15, through the upper 15 bits of each coordinate: 0 to 2^60 - 1. The index atoms_place_idx is over it. 22023 for three numbers that are no key.';
COMMENT ON FUNCTION ingest(bytea, text, text) IS 'Takes data apart into atoms of a modality and returns the row of the log with the key of the atom of all the data. Data that is there already makes nothing new but one more reference. A run that fails undoes what it did, warns and returns its row with status failed and the error; a cancel undoes the row as well. source_uri is what the log says about where the data is from.';
COMMENT ON FUNCTION ingest(text, text, text) IS 'The same for text, in the encoding of the database.';
COMMENT ON FUNCTION ingest_large_object(oid, text, text) IS 'As ingest, for a large object, which may be larger than a bytea. Its bytes are read twice; a run fails with 55006 in its error when they change meanwhile.';
COMMENT ON FUNCTION ingest_many(bytea[], text, text) IS 'Takes in many contents in one run, each as a whole, with one row in the log. Returns their keys in the order of the array, and which are new; nothing after a run that failed.';
COMMENT ON FUNCTION reconstruct(atom) IS 'The content of an atom, of at most 1 GB. Checked against content_hash: XX001 when the parts are not the content, 42704 for an atom that is not there.';
COMMENT ON FUNCTION reconstruct_parts(atom) IS 'The content of an atom of any size, in parts of some hundred kilobytes, in order. The hash is checked with the last part. In a select list the parts stream; in FROM, PostgreSQL collects them first.';
COMMENT ON FUNCTION release(atom) IS 'Takes back one ingest of an atom and returns what is left of its references. 55000 for an atom that was released as often as it was taken in.';
COMMENT ON FUNCTION atoms_gc() IS 'Deletes atoms that nothing refers to, then what only they referred to, and so on, with the bytes of their leaves. Waits for ingests under way, and new ones wait for it. Returns how many atoms went and the bytes they stood for, each level counted. 42501 where row-level security hides atoms from the role.';
COMMENT ON FUNCTION verify_atoms() IS 'Compares every atom with its hash and its place, the tables of atoms with each other, and puts together what is no part of anything else. One row a problem, with the key of the atom; none when all is well. It sees what the role sees.';
COMMENT ON FUNCTION set_atom_meta(atom, jsonb) IS 'Sets meta of an atom and returns its new version; NULL removes it. {"visibility": "public"} shows the atom to everybody where secure_atoms() is on, and what it is made of with it; without that, what no other public atom is made of is hidden again. Changing meta by UPDATE does not change who sees an atom. 42704 for an atom of another role there.';
COMMENT ON FUNCTION secure_atoms(boolean) IS 'Switches row-level security of the store''s atoms, their parts, the bytes of their leaves and the log on or off. A role then sees its own rows and public atoms, and changes its own; partitions show nothing to a role that asks them directly. Atoms are shared within a role, not between roles: where a role''s atoms lie depends on a secret in atom_salts, so that neither keys nor counts tell what others have. Makes the policies, and takes them away again. atom_spatial_summary counts public atoms only while it is on. For the owner of the tables, who still sees everything, and who alone collects. Run it again after attaching a partition. 55000 when atoms of one role are made of atoms of another already.';
COMMENT ON FUNCTION refresh_spatial_summary() IS 'Brings the materialized view atom_spatial_summary up to date without keeping readers waiting: all atoms, or public ones only where row-level security is on. For the owner of the view.';
COMMENT ON FUNCTION nearest(atom, integer, text) IS 'The k atoms nearest to an atom, nearest first, by Euclidean distance of their four coordinates, exactly; the atom itself is one of them. Of its own modality unless another is named. At equal distances, smaller coordinates come first.';
COMMENT ON FUNCTION nearest(integer[], integer, text) IS 'The same for a point {x, y, z, m}, or for an array of them; point_index counts them from 1. Of every modality unless one is named. Many points in one call cost less than as many calls.';
COMMENT ON FUNCTION within_box(integer[], integer[], text) IS 'The atoms whose four coordinates are all between those of two corners, both included, in the order of their keys.';
COMMENT ON FUNCTION within_radius(integer[], double precision, text) IS 'The atoms at most so far from a point {x, y, z, m}, in the order of their keys.';
COMMENT ON FUNCTION find_path(atom, atom, integer, text, text[], integer) IS 'The cheapest path from one atom to another of at most max_hops edges, with the cost up to each step; no rows when there is none. Edges lead from a composite to its parts and back (composition) and to the nearest atoms of the same modality (neighbour; as many as neighbours says); an edge costs the distance between its ends. Strategies: astar (Hart, Nilsson, Raphael 1968), dijkstra, which costs the same and takes longer, and hops, which takes as few edges as it can. 54000 when a million atoms were reached.';
COMMENT ON FUNCTION enable_postgis() IS 'Where PostGIS is installed, makes the view atom_geometries of the current store, in which each atom is a point (x, y, z, m), and returns its name. 42704 without PostGIS.';
