-- Models: the registry of models, their files, layers and heads.
CREATE TABLE @store@.models (
    model_id uuid PRIMARY KEY,
    model_name text NOT NULL CHECK (model_name <> ''),
    version text NOT NULL CHECK (version <> ''),
    parent_model_id uuid REFERENCES @store@.models ON DELETE SET NULL,
    restored_checkpoint_id uuid,
    derivation text,
    architecture text,
    config jsonb,
    metadata jsonb,
    license text,
    tags text[] NOT NULL DEFAULT '{}',
    card jsonb,
    card_words tsvector,
    evaluations jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(evaluations) = 'array'),
    status text NOT NULL DEFAULT 'ready' CHECK (status IN ('registered', 'ready', 'archived')),
    content_hash bytea CHECK (octet_length(content_hash) = 32),
    hidden_size bigint,
    vocab_size bigint,
    attention_heads bigint,
    kv_heads bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by name NOT NULL DEFAULT current_user,
    UNIQUE (model_name, version),
    CHECK (parent_model_id <> model_id)
);
COMMENT ON TABLE @store@.models IS 'One row for each version of a model.';
COMMENT ON COLUMN @store@.models.model_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.models.model_name IS 'Name, shared by the versions of a model.';
COMMENT ON COLUMN @store@.models.version IS 'Version, unique within the name.';
COMMENT ON COLUMN @store@.models.parent_model_id IS 'Model that this one was derived from.';
COMMENT ON COLUMN @store@.models.restored_checkpoint_id IS 'Checkpoint that restore_checkpoint created this version from; get_latest_checkpoint returns it until the version has its own checkpoint.';
COMMENT ON COLUMN @store@.models.derivation IS 'How it was derived from its parent, for example fine-tune or merge.';
COMMENT ON COLUMN @store@.models.architecture IS 'Model family recognised from the config or the names of the weights, for example bert, gpt2, llama.';
COMMENT ON COLUMN @store@.models.config IS 'The model''s config.json.';
COMMENT ON COLUMN @store@.models.metadata IS 'Other data of the user''s choice.';
COMMENT ON COLUMN @store@.models.license IS 'License, such as mit or apache-2.0: that of the front matter of README.md, or what you set.';
COMMENT ON COLUMN @store@.models.tags IS 'Tags: those of the front matter of README.md, or what you set.';
COMMENT ON COLUMN @store@.models.card IS 'Front matter of README.md, the YAML between two lines of ---: language, pipeline_tag, base_model, datasets and so on; NULL if it has none.';
COMMENT ON COLUMN @store@.models.card_words IS 'Words of README.md after its front matter (the first 128 KiB), in the configuration english; search_models searches them.';
COMMENT ON COLUMN @store@.models.evaluations IS 'Evaluations in the order of log_evaluation: objects with dataset, metrics, evaluated_at and evaluated_by.';
COMMENT ON COLUMN @store@.models.status IS 'registered (no weights yet), ready, or archived (kept, but never returned as the latest version).';
COMMENT ON COLUMN @store@.models.content_hash IS 'BLAKE3-256 over names, dtypes, shapes and content of all weights: equal for equal weights, whichever file they were imported from.';
COMMENT ON COLUMN @store@.models.hidden_size IS 'Width of the hidden states, from the shapes or the config.';
COMMENT ON COLUMN @store@.models.vocab_size IS 'Number of rows of the token embedding.';
COMMENT ON COLUMN @store@.models.attention_heads IS 'Query heads per layer, from the config (num_attention_heads); NULL if the config has none or contradicts the shapes.';
COMMENT ON COLUMN @store@.models.kv_heads IS 'Key and value heads per layer (num_key_value_heads); fewer than attention_heads if query heads share them.';
COMMENT ON COLUMN @store@.models.created_at IS 'Time of creation.';
COMMENT ON COLUMN @store@.models.created_by IS 'Role that created it.';

CREATE TABLE @store@.model_aliases (
    model_name text NOT NULL,
    alias text NOT NULL CHECK (alias <> ''),
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_name, alias)
);
-- A store has few aliases: deleting a model reads them all.
COMMENT ON TABLE @store@.model_aliases IS 'Names such as production or staging; each points at one version.';
COMMENT ON COLUMN @store@.model_aliases.model_name IS 'Model the alias belongs to.';
COMMENT ON COLUMN @store@.model_aliases.alias IS 'The alias.';
COMMENT ON COLUMN @store@.model_aliases.model_id IS 'The version it points at.';
COMMENT ON COLUMN @store@.model_aliases.updated_at IS 'Time of the last change.';

CREATE TABLE @store@.model_files (
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    file_name text NOT NULL CHECK (file_name <> ''),
    format text NOT NULL CHECK (format IN ('safetensors', 'safetensors_index', 'file')),
    header bytea NOT NULL,
    tensor_id uuid,
    file_bytes bigint NOT NULL CHECK (file_bytes >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    blake3 bytea NOT NULL CHECK (octet_length(blake3) = 32),
    manifest_hash bytea NOT NULL CHECK (octet_length(manifest_hash) = 32),
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, file_name),
    CHECK ((format = 'file') = (tensor_id IS NOT NULL))
);
ALTER TABLE @store@.model_files ALTER COLUMN header SET STORAGE EXTERNAL;
COMMENT ON TABLE @store@.model_files IS 'Files of a model, with what is needed to export them byte for byte.';
COMMENT ON COLUMN @store@.model_files.model_id IS 'The model.';
COMMENT ON COLUMN @store@.model_files.file_name IS 'Name of the file: its path in the folder of the model, such as 1_Pooling/config.json.';
COMMENT ON COLUMN @store@.model_files.format IS 'safetensors for a file whose tensors are weights, safetensors_index for the index.json of a sharded model, or file for any other, as for weights in another form such as model.fp16.safetensors.';
COMMENT ON COLUMN @store@.model_files.header IS 'Bytes before the tensor data (length and JSON), unchanged; the whole file for an index; empty for format file.';
COMMENT ON COLUMN @store@.model_files.tensor_id IS 'Tensor of bytes (u8) with the content of a file of format file.';
COMMENT ON COLUMN @store@.model_files.file_bytes IS 'Size of the file in bytes.';
COMMENT ON COLUMN @store@.model_files.sha256 IS 'SHA-256 of the file.';
COMMENT ON COLUMN @store@.model_files.blake3 IS 'BLAKE3-256 of the file.';
COMMENT ON COLUMN @store@.model_files.manifest_hash IS 'BLAKE3-256 of the header and the hashes of the file''s chunks in order. If it matches and each chunk matches its own hash, the file is unchanged.';
COMMENT ON COLUMN @store@.model_files.imported_at IS 'Time when it was added.';

CREATE TABLE @store@.transformer_layers (
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    layer_index integer NOT NULL CHECK (layer_index >= 0),
    layer_name text NOT NULL,
    layer_type text NOT NULL,
    parameter_count bigint NOT NULL,
    attention_heads integer CHECK (attention_heads BETWEEN 1 AND 65536),
    kv_heads integer CHECK (kv_heads BETWEEN 1 AND attention_heads),
    head_dim bigint CHECK (head_dim > 0),
    PRIMARY KEY (model_id, layer_index)
);
COMMENT ON TABLE @store@.transformer_layers IS 'Layers of a model, recognised from the names of its weights.';
COMMENT ON COLUMN @store@.transformer_layers.model_id IS 'The model.';
COMMENT ON COLUMN @store@.transformer_layers.layer_index IS 'Position in the stack, from 0.';
COMMENT ON COLUMN @store@.transformer_layers.layer_name IS 'Common prefix of the names of its weights.';
COMMENT ON COLUMN @store@.transformer_layers.layer_type IS 'transformer for a layer with attention, block for any other, mtp for a layer that predicts further tokens and is not counted in the model''s num_hidden_layers.';
COMMENT ON COLUMN @store@.transformer_layers.parameter_count IS 'Number of elements of its weights.';
COMMENT ON COLUMN @store@.transformer_layers.attention_heads IS 'Query heads; NULL if it has no attention, or if neither config nor shapes determine their number.';
COMMENT ON COLUMN @store@.transformer_layers.kv_heads IS 'Key and value heads; fewer than attention_heads if query heads share them.';
COMMENT ON COLUMN @store@.transformer_layers.head_dim IS 'Width of a head.';

-- All of it follows from the layers: a table would have thousands of rows per model.
CREATE VIEW @store@.attention_heads AS
SELECT l.model_id,
       l.layer_index,
       h.head_index,
       'attention' AS head_type,
       h.head_index / (l.attention_heads / l.kv_heads) AS kv_head_index,
       l.head_dim
FROM @store@.transformer_layers l
CROSS JOIN LATERAL generate_series(0, l.attention_heads - 1) AS h(head_index);
COMMENT ON VIEW @store@.attention_heads IS 'Attention heads of each layer, if the config or the shapes determine their number.';
COMMENT ON COLUMN @store@.attention_heads.model_id IS 'The model.';
COMMENT ON COLUMN @store@.attention_heads.layer_index IS 'The layer.';
COMMENT ON COLUMN @store@.attention_heads.head_index IS 'Query head, from 0.';
COMMENT ON COLUMN @store@.attention_heads.head_type IS 'Kind of head, for example attention.';
COMMENT ON COLUMN @store@.attention_heads.kv_head_index IS 'Key and value head that it uses; several query heads share one in grouped-query attention.';
COMMENT ON COLUMN @store@.attention_heads.head_dim IS 'Width of the head.';
