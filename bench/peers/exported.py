"""Towers as files of ONNX and OpenVINO, made once in a process of their own, whose memory is no peer's.

  exported.py MODEL CACHE STAGE f32|int8 onnx|ir
"""

import pathlib
import subprocess
import sys

CALIBRATION = 4


def path(options, stage, kind="onnx"):
    """The file of a tower in f32 or calibrated int8; made if it is not there."""
    precision = "int8" if options.precision == "int8" else "f32"
    file = options.cache / f"{stage}.{precision}.{'xml' if kind == 'ir' else 'onnx'}"
    if not file.exists():
        options.cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, options.model, options.cache, stage, precision, kind]
        made = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if made.returncode != 0:
            last = made.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
            raise RuntimeError(f"{file.name}: {last[0]}")
    return file


def export(model, stage, file):
    """Traces a tower for batches of any size."""
    import torch

    import networks

    x = torch.from_numpy(networks.inputs(model, stage, 2))
    names = dict(input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
    with torch.no_grad():
        torch.onnx.export(networks.load(model, stage), (x,), str(file), dynamo=False, opset_version=17, **names)


def quantize(model, stage, source, file):
    """Weights by channel, activations calibrated; every product and convolution in int8."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    import networks

    class Samples(CalibrationDataReader):
        def __init__(self):
            rows = networks.inputs(model, stage, CALIBRATION)
            self.rows = iter([{"x": row[None]} for row in rows])

        def get_next(self):
            return next(self.rows, None)

    prepared = file.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(file), Samples(), quant_format=QuantFormat.QDQ, per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, op_types_to_quantize=["MatMul", "Gemm", "Conv"],
    )
    prepared.unlink()


def make(model, cache, stage, precision, kind):
    """Makes the file under another name first, so that a half of one is never taken for a whole."""
    onnx = cache / f"{stage}.{precision}.onnx"
    if not onnx.exists():
        part = cache / f"{stage}.{precision}.part.onnx"
        if precision == "int8":
            make(model, cache, stage, "f32", "onnx")
            quantize(model, stage, cache / f"{stage}.f32.onnx", part)
        else:
            export(model, stage, part)
        part.rename(onnx)
    if kind == "ir":
        import openvino

        part = cache / f"{stage}.{precision}.part.xml"
        openvino.save_model(openvino.Core().read_model(str(onnx)), str(part), compress_to_fp16=False)
        part.with_suffix(".bin").rename(onnx.with_suffix(".bin"))
        part.rename(onnx.with_suffix(".xml"))


if __name__ == "__main__":
    model, cache, *rest = sys.argv[1:]
    make(pathlib.Path(model), pathlib.Path(cache), *rest)
