-- Zone maps

COMMENT ON FUNCTION zone_mean(bigint[], double precision[]) IS 'Returns the mean of numbers that are split into chunks, from the count and the mean of each chunk. Ignores chunks with a NULL; returns NULL if there is no number. Overflow gives Infinity, not an error. Used by v_weight_statistics.';
COMMENT ON FUNCTION zone_std(bigint[], double precision[], double precision[]) IS 'Returns the population standard deviation of numbers that are split into chunks, from the count, the mean and the standard deviation of each chunk. Treats NULLs as zone_mean does. Used by v_weight_statistics.';
COMMENT ON FUNCTION zone_l2(bigint[], double precision[], double precision[]) IS 'Returns the Euclidean norm of numbers that are split into chunks, from the arguments of zone_std. Treats NULLs as zone_mean does. Used by v_weight_statistics.';
