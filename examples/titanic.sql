-- Who survived the Titanic? Missing ages, and columns of text.
CREATE EXTERNAL TABLE IF NOT EXISTS titanic STORED AS CSV LOCATION 'examples/data/titanic.csv';

SELECT count(*) AS passengers, count(age) AS ages_known, count(embarked) AS ports_known FROM titanic;

-- A missing number becomes the column's mean, a missing text is a category of its own; text is one-hot encoded.
-- 'alive' says the same as 'survived', so it is left out.
CREATE OR REPLACE MODEL survival
OPTIONS (model_type = 'LOGISTIC_REG', input_label_cols = ['survived'], l2_reg = 0.01) AS
SELECT survived, pclass, sex, age, sibsp, parch, fare, embarked FROM titanic;

-- Measured on the rows that were held out.
SELECT round(accuracy, 3) AS accuracy, round(roc_auc, 3) AS roc_auc FROM ML.EVALUATE(MODEL survival);

SELECT processed_input, round(weight, 3) AS weight, category_weights FROM ML.WEIGHTS(MODEL survival);

-- Two passengers who were never on board.
SELECT sex, pclass, round(PREDICT_PROBA(survival, 1, *), 3) AS p_survives
FROM (VALUES ('female', 1, 30.0, 0, 0, 80.0, 'C'), ('male', 3, NULL, 0, 0, 8.0, 'S'))
  AS t(sex, pclass, age, sibsp, parch, fare, embarked);
