-- The key of an atom as one value, for arguments: (h_xy, h_yz, h_zm)::modelstore.atom.
CREATE TYPE atom AS (h_xy bigint, h_yz bigint, h_zm bigint);
