"""The pipeline: iris from a folder of CSV files to a pushed model, by TFX on this machine.

`pipeline.py HOME RUN` reads `HOME/data/*.csv` and keeps all that TFX makes in HOME: `metadata.sqlite` (ML Metadata),
`artifacts/` and `served/`. RUN becomes the id of the run. What did not change since an earlier run is taken from there.
"""

import os
import sys

from absl import logging
from tfx import v1 as tfx
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter

NAME = "iris"
STORE = "metadata.sqlite"
STEPS = 200


def components():
    """From the data to the pushed model; `trainer.run_fn` is beside this file."""
    examples = tfx.components.CsvExampleGen(input_base="data")
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"], infer_feature_shape=True)
    validator = tfx.components.ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    trainer = tfx.components.Trainer(
        run_fn="trainer.run_fn",
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        train_args=tfx.proto.TrainArgs(num_steps=STEPS),
        eval_args=tfx.proto.EvalArgs(num_steps=1),
    )
    destination = tfx.proto.PushDestination(filesystem=tfx.proto.PushDestination.Filesystem(base_directory="served"))
    pusher = tfx.components.Pusher(model=trainer.outputs["model"], push_destination=destination)
    return [examples, statistics, schema, validator, trainer, pusher]


def run(home, name):
    """One run of this name; raises what the component raised that failed."""
    # relative paths alone, so that HOME may be moved together with its records
    os.chdir(home)
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=NAME,
        pipeline_root="artifacts",
        components=components(),
        enable_cache=True,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(STORE),
    )
    # TFX would name the run after the time; with a name of ours whoever runs it again knows which run it was
    compiled = Compiler().compile(pipeline)
    substitute_runtime_parameter(compiled, {PIPELINE_RUN_ID_PARAMETER_NAME: name})
    tfx.orchestration.LocalDagRunner().run_with_ir(compiled)


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    run(sys.argv[1], sys.argv[2])
