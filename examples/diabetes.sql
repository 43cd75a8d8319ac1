-- How far does the disease progress in a year? Least squares, ridge and lasso on ten measurements.
CREATE EXTERNAL TABLE IF NOT EXISTS diabetes STORED AS CSV LOCATION 'examples/data/diabetes.csv';

TRAIN MODEL progression USING linear_regression PREDICT progression FROM diabetes;

SELECT round(r2_score, 4) AS r2, round(mean_squared_error, 2) AS mse FROM ML.EVALUATE(MODEL progression, TABLE diabetes);

-- The lasso leaves measurements out: their weight is exactly 0.
TRAIN MODEL progression_lasso USING linear_regression PREDICT progression
OPTIONS (reg_param = 5, elastic_net_param = 1) FROM diabetes;

SELECT w.processed_input, round(w.weight, 3) AS least_squares, round(l.weight, 3) AS lasso
FROM ML.WEIGHTS(MODEL progression) w JOIN ML.WEIGHTS(MODEL progression_lasso) l USING (processed_input)
ORDER BY abs(l.weight) DESC, 1;
