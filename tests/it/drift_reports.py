"""Writes drift reports of shifted iris into a directory, with the real libraries, and prints what they themselves say.

Usage: drift_reports.py DIR. Prints one JSON object: versions, and by file the library's own verdicts.
"""

import json
import os
import sys
import warnings
from pathlib import Path

# Neither library is to tell anybody that it is used.
os.environ.update(NML_DISABLE_USAGE_LOGGING="1", DO_NOT_TRACK="1")
warnings.filterwarnings("ignore")

import evidently  # noqa: E402
import nannyml  # noqa: E402
import pandas  # noqa: E402
from evidently import DataDefinition, Dataset, MulticlassClassification, Report  # noqa: E402
from evidently.legacy.metric_preset import DataDriftPreset as LegacyDataDrift  # noqa: E402
from evidently.legacy.report import Report as LegacyReport  # noqa: E402
from evidently.metrics import Accuracy, MissingValueCount, ValueDrift  # noqa: E402
from evidently.presets import ClassificationPreset, DataDriftPreset  # noqa: E402
from evidently.tests import gte, lte  # noqa: E402
from nannyml.io import RawFilesWriter  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

FEATURES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
NUMERIC = "ks wasserstein kl_div psi jensenshannon anderson cramer_von_mises hellinger mannw ed es t_test empirical_mmd".split()
CATEGORICAL = "chisquare kl_div psi jensenshannon hellinger TVD g_test".split()
BINARY = "z fisher_exact".split()
OUT = Path(sys.argv[1])
verdicts: dict[str, object] = {}

iris = load_iris(as_frame=True).frame.sample(frac=1, random_state=1).reset_index(drop=True)
classifier = LogisticRegression(max_iter=1000).fit(iris[FEATURES], iris.target)


def scored(flowers: pandas.DataFrame, start: str) -> pandas.DataFrame:
    """With predictions, their probabilities, and a flower an hour."""
    scored = flowers.assign(prediction=classifier.predict(flowers[FEATURES]), is_large=(flowers["petal length (cm)"] > 4).astype(str))
    for number, column in enumerate(classifier.predict_proba(flowers[FEATURES]).T):
        scored[f"p{number}"] = column
    return scored.assign(at=pandas.date_range(start, periods=len(flowers), freq="h"))


shift = pandas.Series({"petal length (cm)": 2.0, "petal width (cm)": 1.0})
reference = scored(iris, "2026-03-01")
same = scored(iris, "2026-04-01")
shifted = scored(iris.assign(**{name: iris[name] + by for name, by in shift.items()}), "2026-04-01")


def dataset(flowers: pandas.DataFrame) -> Dataset:
    columns = [*FEATURES, "target", "prediction", "is_large"]
    definition = DataDefinition(
        classification=[MulticlassClassification(target="target", prediction_labels="prediction")],
        numerical_columns=FEATURES,
        categorical_columns=["target", "prediction", "is_large"],
    )
    return Dataset.from_pandas(flowers[columns].astype({"target": str, "prediction": str}), definition)


def by_evidently(name: str, metrics: list, current: pandas.DataFrame, include_tests: bool = False):
    run = Report(metrics, include_tests=include_tests).run(dataset(current), dataset(reference))
    run.save_json(str(OUT / name))
    tests = run.dict()["tests"]
    verdicts[name] = {"failed": [test["name"] for test in tests if test["status"] == "FAIL"], "tests": len(tests)}
    return run


def methods() -> list[ValueDrift]:
    numeric = [ValueDrift(column=column, method=method) for column in FEATURES for method in NUMERIC]
    categorical = [ValueDrift(column=column, method=method) for column in ("target", "prediction") for method in CATEGORICAL]
    return [*numeric, *categorical, *[ValueDrift(column="is_large", method=method) for method in BINARY]]


by_evidently("evidently-drift.json", [DataDriftPreset(drift_share=0.3)], shifted)
by_evidently("evidently-below.json", [DataDriftPreset(drift_share=0.5)], shifted)
by_evidently("evidently-clean.json", [DataDriftPreset()], same)
by_evidently("evidently-tests.json", [DataDriftPreset(drift_share=0.3), Accuracy(tests=[gte(0.9)])], shifted, include_tests=True)
by_evidently("evidently-tests-clean.json", [DataDriftPreset(), Accuracy(tests=[gte(0.9)])], same, include_tests=True)
by_evidently("evidently-column.json", [ValueDrift(column="petal width (cm)", method="wasserstein")], shifted)
by_evidently("evidently-chosen.json", [ValueDrift(column=name) for name in FEATURES], shifted)
by_evidently("evidently-methods-shifted.json", methods(), shifted, include_tests=True)
by_evidently("evidently-methods-same.json", methods(), same, include_tests=True)
by_evidently("evidently-unjudged.json", [ClassificationPreset()], shifted)
missing = shifted.assign(**{"sepal width (cm)": shifted["sepal width (cm)"].where(shifted.index > 30)})
quality = MissingValueCount(column="sepal width (cm)", share_tests=[lte(0.1)])
by_evidently("evidently-quality.json", [quality], missing)
(OUT / "evidently-snapshot.json").write_text(Report([DataDriftPreset()]).run(dataset(shifted), dataset(reference)).dumps())
legacy = LegacyReport([LegacyDataDrift()])
legacy.run(reference_data=reference[FEATURES], current_data=shifted[FEATURES])
legacy.save_json(str(OUT / "evidently-legacy.json"))


def by_nannyml(name: str, result, form: str = "csv") -> None:
    RawFilesWriter(path=str(OUT)).write(result, filename=name, format=form)
    table = result.to_df(multilevel=False)
    table = table[table.chunk_period == "analysis"]
    alerts = {column.removesuffix("_alert"): table[column].tolist() for column in table if column.endswith("_alert")}
    values = {column: [float(x) for x in table[f"{column}_value"]] for column in alerts}
    verdicts[name] = {"alerts": alerts, "values": values, "chunks": len(table)}


chunks = {"timestamp_column_name": "at", "chunk_size": 50}
univariate = nannyml.UnivariateDriftCalculator(
    column_names=[*FEATURES, "target"],
    treat_as_categorical=["target"],
    continuous_methods=["kolmogorov_smirnov", "jensen_shannon", "wasserstein", "hellinger"],
    categorical_methods=["chi2", "l_infinity"],
    **chunks,
).fit(reference)
by_nannyml("nannyml-drift.csv", univariate.calculate(shifted))
by_nannyml("nannyml-clean.csv", univariate.calculate(same))
by_nannyml("nannyml-drift.parquet", univariate.calculate(shifted), "parquet")
by_nannyml("nannyml-zoned.csv", univariate.calculate(shifted.assign(at=shifted["at"].dt.tz_localize("Europe/Berlin"))))
outcome = {"problem_type": "classification_multiclass", "y_true": "target", "y_pred": "prediction"}
outcome |= {"y_pred_proba": {0: "p0", 1: "p1", 2: "p2"}, "metrics": ["accuracy", "f1"]} | chunks
by_nannyml("nannyml-performance.csv", nannyml.PerformanceCalculator(**outcome).fit(reference).calculate(shifted))
by_nannyml("nannyml-estimated.csv", nannyml.CBPE(**outcome).fit(reference).estimate(shifted))
together = nannyml.DataReconstructionDriftCalculator(column_names=FEATURES, **chunks).fit(reference)
by_nannyml("nannyml-together.csv", together.calculate(shifted))
whole = nannyml.MissingValuesCalculator(column_names=FEATURES, **chunks).fit(reference)
by_nannyml("nannyml-missing.csv", whole.calculate(missing))
versions = {"evidently": evidently.__version__, "nannyml": nannyml.__version__}
print(json.dumps({"versions": versions, "files": verdicts}))
