"""Two GGUF files in f32 of one model: the dequantised one, and the same with every projection rounded to Q4_0 and back."""
import sys
import numpy as np
from gguf import GGUFReader, GGUFWriter, GGMLQuantizationType as T, GGUFValueType as V
from gguf.quants import dequantize, quantize

source, plain, rounded = sys.argv[1:4]
reader = GGUFReader(source)
arch = reader.fields["general.architecture"].contents()
for path, is_rounded in ((plain, False), (rounded, True)):
    writer = GGUFWriter(path, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == V.ARRAY else None)
    writer.add_file_type(0)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape([int(n) for n in reversed(tensor.shape)])
        if is_rounded and tensor.name.startswith("blk.") and values.ndim == 2:
            values = dequantize(quantize(values, T.Q4_0), T.Q4_0).astype(np.float32).reshape(values.shape)
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
