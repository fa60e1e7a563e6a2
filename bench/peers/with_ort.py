"""ONNX Runtime: an exported tower in f32 or calibrated int8."""

import onnxruntime

import exported


def session(options, file):
    """A tower that is ready to run."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])


def prepare(options, stage, batch):
    """A function of no arguments that runs the stage once."""
    import networks

    file = exported.path(options, stage)
    x = networks.inputs(options.model, stage, batch)
    tower = session(options, file)
    return lambda: tower.run(None, {"x": x}) and None
