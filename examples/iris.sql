-- Three species of iris: softmax regression, with a row of coefficients for each class.
CREATE EXTERNAL TABLE IF NOT EXISTS iris STORED AS CSV LOCATION 'examples/data/iris.csv';

TRAIN MODEL flower USING logistic_regression PREDICT species OPTIONS (reg_param = 0.01) FROM iris;

SELECT class_label, processed_input, round(weight, 3) AS weight FROM ML.WEIGHTS(MODEL flower);

-- The confusion matrix.
SELECT species, predicted_species, count(*) AS flowers
FROM ML.PREDICT(MODEL flower, TABLE iris)
GROUP BY ALL ORDER BY 1, 2;

-- Where is the model unsure?
SELECT petal_length, petal_width, species, predicted_species
FROM ML.PREDICT(MODEL flower, TABLE iris)
WHERE species <> predicted_species ORDER BY 1, 2;
