-- Made by enable_postgis(). The casts choose PostGIS' own function: where others may create in its schema, they could add
-- one of integers, which would match better. The type tells clients that there are four coordinates.
CREATE OR REPLACE VIEW @store@.atom_geometries WITH (security_invoker = true) AS
    SELECT a.h_xy, a.h_yz, a.h_zm, a.modality, a.byte_length, a.meta,
           @postgis@.st_makepoint(p.x::float8, p.y::float8, p.z::float8, p.m::float8)::@postgis@.geometry(PointZM) AS geom
    FROM @store@.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p;
COMMENT ON VIEW @store@.atom_geometries IS 'Atoms as PostGIS points (x, y, z, m), without a spatial reference system. Shows a role only the atoms it can see in atoms.';
COMMENT ON COLUMN @store@.atom_geometries.h_xy IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_geometries.h_yz IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_geometries.h_zm IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_geometries.modality IS 'Modality, numbered as in atoms.';
COMMENT ON COLUMN @store@.atom_geometries.byte_length IS 'Length of the content in bytes.';
COMMENT ON COLUMN @store@.atom_geometries.meta IS 'User data.';
COMMENT ON COLUMN @store@.atom_geometries.geom IS 'Point with the coordinates that atom_point returns.';
