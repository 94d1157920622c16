//! Weights of four and eight bits into the layouts of the kernels (`kernels/decode_weights.cuh`).

use crate::EngineError;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "pack", text: include_str!("../kernels/pack.cu") };
/// Inputs in a block of packed AWQ rows; as in `decode_weights.cuh`.
const AWQ_BLOCK: usize = 128;
const THREADS: usize = 256;

/// A matrix of four-bit weights as the fused decode kernel reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwqShape {
    /// Rows, a multiple of 2 `span`.
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Inputs that share a scale; divides `inputs`.
    pub(crate) group_size: usize,
    /// Rows p and p + span of every 2 span rows are a pair ([`super::decode::pair_spans`]).
    pub(crate) span: usize,
}

impl AwqShape {
    fn tiles(&self) -> usize {
        self.outputs.div_ceil(16)
    }

    fn blocks(&self) -> usize {
        self.inputs.div_ceil(AWQ_BLOCK)
    }

    /// Inputs of a segment: the longest equal parts of a block within which all inputs share a scale.
    fn segment(&self) -> usize {
        AWQ_BLOCK / segments_a_block(self.group_size)
    }

    /// Bytes of the packed codes.
    pub(crate) fn code_bytes(&self) -> usize {
        self.tiles() * self.blocks() * 16 * AWQ_BLOCK / 2
    }

    /// Bytes of scales and zero points: a 32-bit word a segment and row.
    pub(crate) fn group_bytes(&self) -> usize {
        self.tiles() * self.blocks() * segments_a_block(self.group_size) * 16 * 4
    }
}

/// Equal parts of a block of inputs, none of which a group ends within.
pub(crate) fn segments_a_block(group_size: usize) -> usize {
    AWQ_BLOCK / common_divisor(group_size, AWQ_BLOCK)
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Bytes of the int8 codes of `outputs` rows, each padded to 16 bytes.
pub(crate) fn int8_code_bytes(outputs: usize, inputs: usize) -> usize {
    outputs * inputs.next_multiple_of(16)
}

/// An AWQ tensor as checkpoints hold it (`engine/model/awq.rs`), in device memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwqSource {
    /// A multiple of 8.
    pub(crate) outputs: usize,
    /// i32 `[inputs, outputs / 8]`.
    pub(crate) qweight: u64,
    /// i32 `[inputs / group_size, outputs / 8]`.
    pub(crate) qzeros: u64,
    /// f16 `[inputs / group_size, outputs]`.
    pub(crate) scales: u64,
}

/// The repacking kernels.
#[derive(Debug)]
pub(crate) struct Pack {
    awq_codes: Kernel,
    awq_groups: Kernel,
    awq_to_dense: Kernel,
    /// By [`ElementType`].
    to_int8: [Kernel; 3],
    int8_to_dense: Kernel,
}

impl Pack {
    /// Compiles or finds the kernels.
    pub(crate) fn load(device: &Device) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &Options::default())?;
        Ok(Self {
            awq_codes: module.kernel("awq_pack", 0)?,
            awq_groups: module.kernel("awq_groups", 0)?,
            awq_to_dense: module.kernel("awq_dense", 0)?,
            to_int8: [
                module.kernel("int8_pack_f32", 0)?,
                module.kernel("int8_pack_f16", 0)?,
                module.kernel("int8_pack_bf16", 0)?,
            ],
            int8_to_dense: module.kernel("int8_dense", 0)?,
        })
    }

    /// Packs a tensor into the rows from `first_output` on of a stacked matrix: `codes` ([`AwqShape::code_bytes`]) and
    /// `groups` ([`AwqShape::group_bytes`]). Every tensor of a matrix has its inputs and group size.
    pub(crate) fn awq(
        &self,
        device: &Device,
        shape: &AwqShape,
        source: &AwqSource,
        (codes, groups): (u64, u64),
        first_output: usize,
    ) -> Result<(), EngineError> {
        let &AwqSource { outputs, qweight, qzeros, scales } = source;
        let &AwqShape { inputs, group_size, span, .. } = shape;
        assert!(
            outputs.is_multiple_of(8) && inputs.is_multiple_of(group_size),
            "{outputs} outputs of {inputs} inputs in groups of {group_size}"
        );
        let words = outputs / 8;
        // Four threads a word.
        let grid = Grid { blocks: (words.div_ceil(32), shape.blocks(), 1), ..Grid::line(0, 128) };
        let arguments = [qweight.into(), inputs.into(), words.into(), codes.into(), first_output.into(), span.into()];
        self.awq_codes.launch(device, grid, &arguments)?;
        let segment = shape.segment();
        let blocks = (outputs.div_ceil(THREADS), shape.blocks() * segments_a_block(group_size), 1);
        let arguments = [
            qzeros.into(),
            scales.into(),
            inputs.into(),
            group_size.into(),
            segment.into(),
            words.into(),
            groups.into(),
            first_output.into(),
            span.into(),
        ];
        self.awq_groups.launch(device, Grid { blocks, ..Grid::line(0, THREADS) }, &arguments)
    }

    /// A packed matrix as dense binary16, `to` f16 `[outputs, inputs]`: round((q − z) · s). `inputs` is a multiple of 8, as
    /// is the group size.
    pub(crate) fn awq_dense(
        &self,
        device: &Device,
        shape: &AwqShape,
        (codes, groups): (u64, u64),
        to: u64,
    ) -> Result<(), EngineError> {
        let &AwqShape { outputs, inputs, group_size, span } = shape;
        assert!(
            group_size.is_multiple_of(8) && inputs.is_multiple_of(group_size),
            "groups of {group_size} of {inputs}"
        );
        let arguments = [codes.into(), groups.into(), inputs.into(), shape.segment().into(), span.into(), to.into()];
        self.awq_to_dense.launch(device, eights(outputs, inputs), &arguments)
    }

    /// Quantises a dense matrix `[outputs, inputs]`: `codes` ([`int8_code_bytes`]) and `scales` f32 `[outputs]`, as the
    /// CPU engine does (`engine/cpu/quantized.rs`).
    pub(crate) fn int8(
        &self,
        device: &Device,
        (dense, of): (u64, ElementType),
        [outputs, inputs]: [usize; 2],
        (codes, scales): (u64, u64),
    ) -> Result<(), EngineError> {
        let arguments = [dense.into(), inputs.into(), codes.into(), scales.into()];
        self.to_int8[of as usize].launch(device, Grid::line(outputs, THREADS), &arguments)
    }

    /// An int8 matrix as dense binary16, `to` f16 `[outputs, inputs]`: round(q · s). `inputs` is a multiple of 8.
    pub(crate) fn int8_dense(
        &self,
        device: &Device,
        (codes, scales): (u64, u64),
        [outputs, inputs]: [usize; 2],
        to: u64,
    ) -> Result<(), EngineError> {
        assert!(inputs.is_multiple_of(8), "{inputs} inputs");
        let arguments = [codes.into(), scales.into(), inputs.into(), to.into()];
        self.int8_to_dense.launch(device, eights(outputs, inputs), &arguments)
    }
}

/// A thread for eight inputs of a row.
fn eights(outputs: usize, inputs: usize) -> Grid {
    Grid { blocks: (outputs, (inputs / 8).div_ceil(THREADS), 1), ..Grid::line(0, THREADS) }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::cuda::buffer::{Buffer, Element};
    use crate::cuda::testing::{Random, compiles, gpu};
    use crate::model::AwqTensor;

    #[test]
    fn the_kernels_compile() {
        compiles([(SOURCE, Options::default())]);
    }

    fn tensor(outputs: usize, inputs: usize, group_size: usize, random: &mut Random) -> AwqTensor {
        let groups = inputs / group_size;
        let q: Vec<u8> = (0..outputs * inputs).map(|_| random.below(16) as u8).collect();
        let zeros: Vec<u8> = (0..outputs * groups).map(|_| random.below(16) as u8).collect();
        let scales: Vec<f16> =
            (0..outputs * groups).map(|_| f16::from_f32(0.001 + random.normal().abs() * 0.01)).collect();
        AwqTensor::pack(outputs, inputs, group_size, &q, &zeros, &scales).unwrap()
    }

    #[test]
    fn awq_becomes_the_dense_matrix_of_its_values() {
        let Some(device) = gpu() else { return };
        let pack = Pack::load(&device).unwrap();
        let mut random = Random::new(3);
        let sizes = [
            ([64, 32, 8], 256, 128),
            ([8, 8, 16], 192, 32),
            ([264, 8, 8], 576, 64),
            ([16, 8, 8], 5632, 5632),
            ([40, 8, 8], 72, 8),
        ];
        // Neighbours, neighbours at a distance, and the halves of the whole.
        let spans: [fn(usize) -> usize; 3] = [|_| 1, |_| 4, |total| total / 2];
        for ((outputs, inputs, group_size), span) in sizes.iter().flat_map(|size| spans.map(|span| (*size, span))) {
            let tensors = outputs.map(|outputs| tensor(outputs, inputs, group_size, &mut random));
            let total: usize = outputs.iter().sum();
            let shape = AwqShape { outputs: total, inputs, group_size, span: span(total) };
            let codes = Buffer::new(&device, shape.code_bytes()).unwrap();
            let groups = Buffer::new(&device, shape.group_bytes()).unwrap();
            let dense = Buffer::new(&device, (total * inputs + 8) * 2).unwrap();
            for buffer in [&codes, &groups, &dense] {
                buffer.fill(&device, 0xff).unwrap();
            }
            let mut first = 0;
            for tensor in &tensors {
                let [qweight, qzeros] =
                    [&tensor.qweight, &tensor.qzeros].map(|words| Buffer::of(&device, words).unwrap());
                let scales = Buffer::of(&device, &tensor.scales).unwrap();
                let source = AwqSource {
                    outputs: tensor.outputs,
                    qweight: qweight.pointer(),
                    qzeros: qzeros.pointer(),
                    scales: scales.pointer(),
                };
                pack.awq(&device, &shape, &source, (codes.pointer(), groups.pointer()), first).unwrap();
                device.synchronize().unwrap();
                first += tensor.outputs;
            }
            let packed = (codes.pointer(), groups.pointer());
            pack.awq_dense(&device, &shape, packed, dense.pointer()).unwrap();
            let got: Vec<f16> = dense.read(&device, 0, total * inputs + 8).unwrap();
            let wanted: Vec<f16> = tensors.iter().flat_map(AwqTensor::dequantize).map(f16::from_f32).collect();
            // −0 and 0 are one number: (q − z) · s of equal codes is 0 in both.
            assert!(got.iter().zip(&wanted).all(|(a, b)| a == b), "{shape:?}");
            assert!(got[total * inputs..].iter().all(|value| value.to_bits() == 0xffff), "a write behind the matrix");
        }
    }

    /// Codes, padding included, and scales as `engine/cpu/quantized.rs` defines them.
    fn quantized(weights: &[f32], inputs: usize) -> (Vec<i8>, Vec<f32>) {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for row in weights.chunks(inputs) {
            let scale = row.iter().fold(0.0_f32, |top, weight| top.max(weight.abs())) / 127.0;
            let code = |weight: &f32| if scale > 0.0 { (weight / scale).round_ties_even() as i8 } else { 0 };
            codes.extend(row.iter().map(code));
            codes.resize(codes.len().next_multiple_of(inputs.next_multiple_of(16)), 0);
            scales.push(scale);
        }
        (codes, scales)
    }

    fn quantizes<T: Element>(device: &Device, pack: &Pack, of: ElementType, round: impl Fn(f32) -> (T, f32)) {
        for (outputs, inputs) in [(5, 200), (64, 2048), (3, 8), (40, 576)] {
            let mut random = Random::new(inputs as u64);
            let mut weights = random.matrix(outputs, inputs, 0.02);
            weights[..inputs].fill(0.0);
            // Ties: the scale of the second row is 2.
            weights[inputs] = -254.0;
            weights[inputs + 1..inputs + 4].copy_from_slice(&[3.0, 5.0, 1.0]);
            // Too small for a scale of its own in binary32, or zero in the other types.
            weights[2 * inputs..3 * inputs].fill(1e-44);
            let (stored, values): (Vec<T>, Vec<f32>) = weights.iter().map(|weight| round(*weight)).unzip();
            let (codes, scales) = quantized(&values, inputs);
            let source = Buffer::of(device, &stored).unwrap();
            let code_buffer = Buffer::new(device, int8_code_bytes(outputs, inputs)).unwrap();
            let [scale_buffer, dense] =
                [outputs * 4, (outputs * inputs + 8) * 2].map(|bytes| Buffer::new(device, bytes).unwrap());
            for buffer in [&code_buffer, &scale_buffer, &dense] {
                buffer.fill(device, 0xff).unwrap();
            }
            let packed = (code_buffer.pointer(), scale_buffer.pointer());
            pack.int8(device, (source.pointer(), of), [outputs, inputs], packed).unwrap();
            pack.int8_dense(device, packed, [outputs, inputs], dense.pointer()).unwrap();
            let got: Vec<u8> = code_buffer.read(device, 0, codes.len()).unwrap();
            assert_eq!(
                got.iter().map(|code| code.cast_signed()).collect::<Vec<_>>(),
                codes,
                "{of:?} {outputs} × {inputs}"
            );
            assert_eq!(scale_buffer.read::<f32>(device, 0, outputs).unwrap(), scales);
            let got: Vec<f16> = dense.read(device, 0, outputs * inputs + 8).unwrap();
            let padded = inputs.next_multiple_of(16);
            for (at, value) in got[..outputs * inputs].iter().enumerate() {
                let wanted = f32::from(codes[at / inputs * padded + at % inputs]) * scales[at / inputs];
                assert_eq!(*value, f16::from_f32(wanted), "{of:?} at {at}");
            }
            assert!(got[outputs * inputs..].iter().all(|value| value.to_bits() == 0xffff), "a write behind the matrix");
        }
    }

    #[test]
    fn int8_is_the_cpu_engines_int8() {
        let Some(device) = gpu() else { return };
        let pack = Pack::load(&device).unwrap();
        quantizes(&device, &pack, ElementType::F32, |x| (x, x));
        quantizes(&device, &pack, ElementType::F16, |x| (f16::from_f32(x), f16::from_f32(x).to_f32()));
        quantizes(&device, &pack, ElementType::Bf16, |x| (bf16::from_f32(x), bf16::from_f32(x).to_f32()));
    }
}
