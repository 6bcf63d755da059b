-- Shell types, so that input and output functions can name them.
CREATE TYPE tensor;
CREATE TYPE tensor_chunk;
