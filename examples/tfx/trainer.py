"""What the Trainer runs: a small network on the four measurements, its figures, and the model for serving."""

import json
import os

import keras
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx_bsl.public.tfxio import TensorFlowDatasetOptions

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
LABEL = "species"
SPECIES = 3
SEED = 11
BATCH = 20
LEARNING_RATE = 0.01
# Somebody who needs the device for something else makes this file.
TAKEN = "device-taken"


def rows(args, files, batches):
    """The examples of a split, in batches, again and again."""
    schema = tfx.utils.parse_pbtxt_file(args.schema_path, schema_pb2.Schema())
    options = TensorFlowDatasetOptions(batch_size=BATCH, label_key=LABEL, shuffle=batches is None, shuffle_seed=SEED, num_epochs=batches)
    return args.data_accessor.tf_dataset_factory(files, options, schema)


def network():
    """Four numbers in, a score for each species out."""
    inputs = {name: keras.Input((1,), name=name) for name in FEATURES}
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.concatenate(list(inputs.values())))
    model = keras.Model(inputs, keras.layers.Dense(SPECIES, activation="softmax")(hidden))
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def run_fn(args):
    """Called by the Trainer with where everything is. The figures go to `model_run`, where whoever reports the run looks."""
    if os.path.exists(TAKEN):
        raise RuntimeError(f"the device is taken by somebody else: there is a file `{TAKEN}`")
    keras.utils.set_random_seed(SEED)
    model = network()
    model.fit(rows(args, args.train_files, None), steps_per_epoch=args.train_steps, epochs=1, verbose=0)
    loss, accuracy = model.evaluate(rows(args, args.eval_files, 1), verbose=0)
    os.makedirs(args.model_run_dir, exist_ok=True)
    with open(os.path.join(args.model_run_dir, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump({"eval": {"accuracy": round(accuracy, 4), "loss": round(loss, 4)}}, file)
    model.export(args.serving_model_dir, verbose=False)
