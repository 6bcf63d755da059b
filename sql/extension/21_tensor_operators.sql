-- tensor operators: equality is of dtype, shape and bits, so NaN equals the same NaN and 0 differs from -0
CREATE OPERATOR = (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_eq,
    COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
CREATE OPERATOR <> (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_ne,
    COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR CLASS tensor_hash_ops DEFAULT FOR TYPE tensor USING hash AS
    OPERATOR 1 = (tensor, tensor),
    FUNCTION 1 tensor_hash(tensor);
