-- Hilbert curves

COMMENT ON FUNCTION hilbert_encode(bigint, bigint, integer) IS 'The code of cell (x, y) on the Hilbert curve of an order, 1 to 31, which fills a grid of 2^order by 2^order cells: 0 to 4^order - 1. Cells of successive codes are neighbours. At order 1 the curve goes through (0,0), (0,1), (1,1), (1,0); at every order it begins at (0,0) and ends at (2^order - 1, 0). 22003 for a cell that is not of the grid.';
COMMENT ON FUNCTION hilbert_encode(bigint[], bigint[], integer) IS 'The codes of many cells, given as their x and their y.';
COMMENT ON FUNCTION hilbert_encode(bigint[], integer) IS 'The code of a cell of a grid of 2 to 8 axes, by Skilling 2004; axes times order is at most 63. With two axes it is that of hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_decode(bigint, integer) IS 'The cell of a code: the inverse of hilbert_encode(x, y, order).';
COMMENT ON FUNCTION hilbert_decode(bigint[], integer) IS 'The cells of many codes, as their x and their y.';
COMMENT ON FUNCTION hilbert_decode(bigint, integer, integer) IS 'The cell of a code on a grid of that many axes: the inverse of hilbert_encode(point, order).';
COMMENT ON FUNCTION hilbert_ranges(bigint, bigint, bigint, bigint, integer, integer) IS 'The ranges of codes that cover the cells of a box, corners included, in order and apart: exactly, or with at most max_ranges of them, which then cover cells beside the box as well and never miss one of it. 54000 when a box needs more than a million.';
