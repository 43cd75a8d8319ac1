-- Handwritten digits: a network with one hidden layer reads pixels.
CREATE EXTERNAL TABLE IF NOT EXISTS digits STORED AS CSV LOCATION 'examples/data/digits.csv';

-- Pixels have one unit, so they keep their proportions. About a fifth of the rows are held out, and training stops when
-- they are predicted no better.
TRAIN MODEL reader USING mlp_classifier PREDICT digit
OPTIONS (hidden_units = [64], standardization = false, dropout = 0.2, learn_rate = 0.01, max_iter = 30) FROM digits;

-- How it went.
SELECT iteration, round(loss, 3) AS loss, round(eval_loss, 3) AS eval_loss
FROM ML.TRAINING_INFO(MODEL reader) ORDER BY eval_loss LIMIT 5;

-- How well it reads the rows that were held out.
SELECT round(accuracy, 3) AS accuracy, round(log_loss, 3) AS log_loss FROM ML.EVALUATE(MODEL reader);

-- What it is made of.
SELECT layer, count(*) AS weights, round(stddev(weight), 3) AS spread FROM ML.WEIGHTS(MODEL reader)
WHERE processed_input <> '__INTERCEPT__' GROUP BY layer ORDER BY layer;

-- The digits it is least sure of.
SELECT digit, predicted_digit, round(predicted_digit_probs[1]['prob'], 2) AS probability
FROM ML.PREDICT(MODEL reader, TABLE digits) ORDER BY predicted_digit_probs[1]['prob'] LIMIT 5;
