-- tensor type
-- STORAGE external: no compression by TOAST, so that shape() and a leading slice read only the pieces they need.
CREATE TYPE tensor (
    INPUT = tensor_in,
    OUTPUT = tensor_out,
    RECEIVE = tensor_recv,
    SEND = tensor_send,
    TYPMOD_IN = tensor_typmod_in,
    TYPMOD_OUT = tensor_typmod_out,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = double,
    STORAGE = external
);
