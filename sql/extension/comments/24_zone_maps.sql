-- Zone maps

COMMENT ON FUNCTION zone_mean(bigint[], double precision[]) IS 'Mean of numbers that come in pieces: how many each piece has, and their mean there. Pieces with a NULL are left out; NULL when there is no number. Overflow gives Infinity, not an error. For v_weight_statistics.';
COMMENT ON FUNCTION zone_std(bigint[], double precision[], double precision[]) IS 'Standard deviation, as a population, of numbers that come in pieces: how many each piece has, their mean and their standard deviation there. For v_weight_statistics.';
COMMENT ON FUNCTION zone_l2(bigint[], double precision[], double precision[]) IS 'Euclidean norm of numbers that come in pieces, from the same figures as zone_std. For v_weight_statistics.';
