-- What does a taxi ride in New York cost? Features from timestamps, outliers, missing zones.
CREATE EXTERNAL TABLE IF NOT EXISTS taxis STORED AS CSV LOCATION 'examples/data/taxis.csv';

CREATE OR REPLACE VIEW rides AS
SELECT fare, distance, passengers, color, pickup_borough,
       date_part('hour', pickup) AS hour,
       date_part('dow', pickup) IN (0, 6) AS weekend,
       date_part('epoch', dropoff) - date_part('epoch', pickup) AS seconds,
       pickup >= TIMESTAMP '2019-03-25' AS last_week
FROM taxis WHERE distance > 0 AND fare BETWEEN 2.5 AND 100;

-- The last week of the month is held out: the future is not known when a model is trained.
TRAIN MODEL fare USING linear_regression PREDICT fare SPLIT BY last_week OPTIONS (reg_param = 0.01) FROM rides;

SELECT round(mean_absolute_error, 2) AS mean_absolute_error, round(r2_score, 3) AS r2 FROM ML.EVALUATE(MODEL fare);

SELECT processed_input, round(weight, 4) AS weight, category_weights FROM ML.WEIGHTS(MODEL fare);

-- The rides whose fare the model does not understand.
SELECT fare, round(predicted_fare, 2) AS predicted_fare, round(distance, 1) AS miles, seconds
FROM ML.PREDICT(MODEL fare, TABLE rides) ORDER BY abs(fare - predicted_fare) DESC LIMIT 5;
