"""OpenVINO: an exported tower in f32, bf16 or calibrated int8."""

import openvino

import exported


def request(options, file, shape):
    """A tower that is compiled for inputs of one shape."""
    core = openvino.Core()
    model = core.read_model(str(file))
    model.reshape(list(shape))
    settings = {
        "INFERENCE_NUM_THREADS": options.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",
    }
    return core.compile_model(model, "CPU", settings).create_infer_request()


def prepare(options, stage, batch):
    """A function of no arguments that runs the stage once."""
    import networks

    file = exported.path(options, stage)
    x = networks.inputs(options.model, stage, batch)
    tower = request(options, file, x.shape)

    def run():
        tower.infer({0: x})

    return run
