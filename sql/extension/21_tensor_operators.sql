-- tensor operators: equality is of dtype, shape and bits, so NaN equals the same NaN and 0 differs from -0. The order
-- agrees with it: by dtype, number of dimensions, dimensions, then elements; floats in the total order of IEEE 754.
CREATE OPERATOR = (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_eq,
    COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
CREATE OPERATOR <> (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_ne,
    COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR < (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_lt,
    COMMUTATOR = >, NEGATOR = >=, RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR <= (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_le,
    COMMUTATOR = >=, NEGATOR = >, RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR > (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_gt,
    COMMUTATOR = <, NEGATOR = <=, RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
CREATE OPERATOR >= (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_ge,
    COMMUTATOR = <=, NEGATOR = <, RESTRICT = scalargesel, JOIN = scalargejoinsel
);
CREATE OPERATOR CLASS tensor_ops DEFAULT FOR TYPE tensor USING btree AS
    OPERATOR 1 < (tensor, tensor),
    OPERATOR 2 <= (tensor, tensor),
    OPERATOR 3 = (tensor, tensor),
    OPERATOR 4 >= (tensor, tensor),
    OPERATOR 5 > (tensor, tensor),
    FUNCTION 1 tensor_cmp(tensor, tensor),
    FUNCTION 4 btequalimage(oid);
CREATE OPERATOR CLASS tensor_hash_ops DEFAULT FOR TYPE tensor USING hash AS
    OPERATOR 1 = (tensor, tensor),
    FUNCTION 1 tensor_hash(tensor),
    FUNCTION 2 tensor_hash_extended(tensor, bigint);
