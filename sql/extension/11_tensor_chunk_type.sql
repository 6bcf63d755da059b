-- tensor_chunk type
CREATE TYPE tensor_chunk (
    INPUT = tensor_chunk_in,
    OUTPUT = tensor_chunk_out,
    RECEIVE = tensor_chunk_recv,
    SEND = tensor_chunk_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = double,
    STORAGE = external
);
