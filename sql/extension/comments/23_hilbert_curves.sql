-- Hilbert curves

COMMENT ON FUNCTION hilbert_encode(bigint, bigint, integer) IS 'Returns the code, 0 to 4^order - 1, of cell (x, y) on the Hilbert curve of an order, 1 to 31, which fills a grid of 2^order by 2^order cells. Cells with successive codes are neighbours. At order 1 the curve visits (0,0), (0,1), (1,1), (1,0); at every order it starts at (0,0) and ends at (2^order - 1, 0). Raises 22003 for a cell outside the grid.';
COMMENT ON FUNCTION hilbert_encode_many(bigint[], bigint[], integer) IS 'Returns the codes of many cells, given as arrays of x and of y.';
COMMENT ON FUNCTION hilbert_encode_point(bigint[], integer) IS 'Returns the code of a cell of a grid of 2 to 8 axes, by Skilling 2004; the number of axes times order is at most 63. With two axes, the code equals hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_decode(bigint, integer) IS 'Returns the cell of a code: the inverse of hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_decode_many(bigint[], integer) IS 'Returns the cells of many codes, as arrays of x and of y.';
COMMENT ON FUNCTION hilbert_decode_point(bigint, integer, integer) IS 'Returns the cell of a code on a grid with that many axes: the inverse of hilbert_encode(point, order).';
COMMENT ON FUNCTION hilbert_ranges(bigint, bigint, bigint, bigint, integer, integer) IS 'Returns disjoint, ordered ranges of codes that cover the cells of a box, corners included: exactly, or with at most max_ranges ranges, which cover all cells of the box and possibly others. Raises 54000 if a box needs more than a million ranges.';
