-- Do the measurements of penguins fall into groups by themselves? k-means, without looking at the species.
CREATE EXTERNAL TABLE IF NOT EXISTS penguins STORED AS CSV LOCATION 'examples/data/penguins.csv';

-- Grams and millimetres are not comparable, so each measurement is divided by its standard deviation.
-- Penguins that were not measured are skipped.
TRAIN MODEL penguin_groups USING kmeans OPTIONS (k = 3, seed = 3, standardize_features = true, on_missing = 'skip') AS
SELECT bill_length_mm, bill_depth_mm, flipper_length_mm, body_mass_g FROM penguins;

SELECT species, PREDICT(penguin_groups, *) AS centroid, count(*) AS penguins
FROM penguins GROUP BY ALL ORDER BY 1, 2;

SELECT round(davies_bouldin_index, 3) AS davies_bouldin_index, round(mean_squared_distance, 3) AS mean_squared_distance
FROM ML.EVALUATE(MODEL penguin_groups, TABLE penguins);
