//! Mixtures of experts: which experts each row goes through, their MLPs, and what they add. The host never learns which were chosen.

use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Grid, Kernel, Module};
use crate::model::{Activation, Experts, ModelConfig};

const SOURCE: Source = Source { name: "experts", text: include_str!("../kernels/experts.cu") };

/// As in the kernels.
const THREADS: usize = 256;
/// Outputs of a tile; as in the kernels.
const TILE_OUTPUTS: usize = 64;
/// Assignments of a tile, where experts have few and where they have many.
const TILES: [usize; 2] = [16, 64];
/// The most experts that a lane's bits number; as in the kernels.
const MOST_EXPERTS: usize = 1024;

/// An expert's matrices of one layer, as device addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertMatrices {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Element `[experts, outputs, inputs]`.
    pub(crate) weights: u64,
    /// Element `[experts, outputs]`; 0 for none.
    pub(crate) bias: u64,
}

/// The kernels of a model with experts, and what they leave for each other.
#[derive(Debug)]
pub(crate) struct ExpertKernels {
    experts: Experts,
    element: ElementType,
    route: Kernel,
    group: Kernel,
    /// For each of [`TILES`].
    multiply: [Kernel; 2],
    gate: Kernel,
    combine: Kernel,
    /// Element `[rows, experts]`: the router's scores.
    pub(crate) scores: Buffer,
    /// i32 and f32 `[rows, chosen]`.
    chosen: Buffer,
    weights: Buffer,
    /// i32 `[rows · chosen]`.
    order: Buffer,
    /// Four i32 a tile.
    tiles: Buffer,
    /// Element: gate and up of the assignments, or of the shared MLP's rows.
    pub(crate) up: Buffer,
    /// Element: these when the gates are applied.
    pub(crate) activation: Buffer,
    /// Element `[rows · chosen, hidden]`: what the experts put out.
    out: Buffer,
    /// Element `[rows, hidden]`: what the shared MLP puts out.
    pub(crate) shared: Buffer,
}

/// What a launch of the experts' GEMMs needs.
#[derive(Debug, Clone, Copy)]
struct Tiling {
    /// Index into [`TILES`].
    kind: usize,
    /// Tiles that there are at most.
    most: usize,
}

impl Tiling {
    /// For so many assignments, spread over the experts as they may be.
    fn of(assignments: usize, experts: usize) -> Self {
        let kind = usize::from(assignments >= TILES[1] / 2 * experts);
        // Every expert may have a tile that is not full.
        Self { kind, most: assignments.min(assignments / TILES[kind] + experts) }
    }

    /// Tiles that there are at most, of up to so many assignments.
    fn most_of(assignments: usize, experts: usize) -> usize {
        // Where tiles are small: fewer than half a large tile's for each expert, and one that is not full.
        (assignments / TILES[1] + experts).max((TILES[1] / 2 / TILES[0] + 1) * experts)
    }
}

impl ExpertKernels {
    /// Compiles or finds the kernels, and reserves what steps of up to `rows` rows need; nothing for a model without experts.
    pub(crate) fn load(
        device: &Device,
        config: &ModelConfig,
        element: ElementType,
        rows: usize,
    ) -> Result<Option<Self>, EngineError> {
        let Some(experts) = config.features.experts else { return Ok(None) };
        check(config, experts, element)?;
        let module = Module::load(device, SOURCE, &options(config, experts, element))?;
        let shared_bytes = TILES.map(|tile| shared_bytes(tile, element));
        let assignments = rows * experts.chosen;
        let shared_width = experts.shared.unwrap_or(0);
        let inside = (assignments * experts.intermediate).max(rows * shared_width);
        let elements = |count: usize| Buffer::new(device, count.max(1) * element.bytes());
        let words = |count: usize| Buffer::new(device, count * size_of::<i32>());
        Ok(Some(Self {
            experts,
            element,
            route: module.kernel("route", 0)?,
            group: module.kernel("group", 0)?,
            multiply: [
                module.kernel("multiply_few", shared_bytes[0])?,
                module.kernel("multiply_many", shared_bytes[1])?,
            ],
            gate: module.kernel("gate", 0)?,
            combine: module.kernel("combine", 0)?,
            scores: elements(rows * experts.count)?,
            chosen: words(assignments)?,
            weights: words(assignments)?,
            order: words(assignments)?,
            tiles: words(4 * Tiling::most_of(assignments, experts.count))?,
            up: elements(2 * inside)?,
            activation: elements(inside)?,
            out: elements(assignments * config.hidden)?,
            shared: elements(if experts.shared.is_some() { rows * config.hidden } else { 0 })?,
        }))
    }

    /// Bytes of device memory.
    pub(crate) fn bytes(&self) -> usize {
        let Self { scores, chosen, weights, order, tiles, up, activation, out, shared, .. } = self;
        [scores, chosen, weights, order, tiles, up, activation, out, shared].iter().map(|buffer| buffer.bytes()).sum()
    }

    /// y `[rows, width]` = silu(gate) · up, or what else the experts have, of rows of x `[rows, 2 · width]`. Here and below, `overlaps` means programmatic dependent launch.
    pub(crate) fn gate(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        width: usize,
        x: u64,
        y: u64,
    ) -> Result<(), EngineError> {
        let grid = Grid { overlaps, ..Grid::line((rows * width).div_ceil(THREADS), THREADS) };
        self.gate.launch(device, grid, &[x.into(), rows.into(), width.into(), y.into()])
    }

    /// x `[rows, hidden]` += what h's rows `[rows, hidden]` come to in the experts that [`ExpertKernels::scores`] choose, by their matrices
    /// `up` (gate and up) and `down`; and what lies in [`ExpertKernels::shared`], times the sigmoid of the product of h with `shared_gate`
    /// `[hidden]`, where the model has that. `short`: each of its launches but the first overlaps the one before.
    pub(crate) fn through(
        &self,
        device: &Device,
        (rows, overlaps, short): (usize, bool, bool),
        (up, down): (&ExpertMatrices, &ExpertMatrices),
        (h, shared_gate): (u64, u64),
        x: u64,
    ) -> Result<(), EngineError> {
        let (chosen, order, tiles) = (self.chosen.pointer(), self.order.pointer(), self.tiles.pointer());
        let assignments = rows * self.experts.chosen;
        let tiling = Tiling::of(assignments, self.experts.count);
        let following = |grid: Grid| Grid { overlaps: short, ..grid };
        let grid = Grid { overlaps, ..Grid::line((rows * 32).div_ceil(THREADS), THREADS) };
        let weights = self.weights.pointer();
        self.route.launch(device, grid, &[self.scores.pointer().into(), rows.into(), chosen.into(), weights.into()])?;
        let arguments = [
            chosen.into(),
            assignments.into(),
            TILES[tiling.kind].into(),
            order.into(),
            tiles.into(),
            tiling.most.into(),
        ];
        self.group.launch(device, following(Grid::line(1, 1024)), &arguments)?;
        self.multiply(device, (tiling, short), up, (h, self.experts.chosen), self.up.pointer())?;
        let inside = (assignments, short);
        self.gate(device, inside, self.experts.intermediate, self.up.pointer(), self.activation.pointer())?;
        self.multiply(device, (tiling, short), down, (self.activation.pointer(), 1), self.out.pointer())?;
        let (out, shared) = (self.out.pointer(), self.shared.pointer());
        let arguments = [out, weights, h, shared, shared_gate, x].map(Into::into);
        self.combine.launch(device, following(Grid::line(rows, THREADS)), &arguments)
    }

    /// y `[assignments, outputs]` of x `[assignments / divisor, inputs]`.
    fn multiply(
        &self,
        device: &Device,
        (tiling, overlaps): (Tiling, bool),
        matrices: &ExpertMatrices,
        (x, divisor): (u64, usize),
        y: u64,
    ) -> Result<(), EngineError> {
        let &ExpertMatrices { outputs, inputs, weights, bias } = matrices;
        let grid = Grid {
            blocks: (outputs.div_ceil(TILE_OUTPUTS), tiling.most, 1),
            threads: if self.element == ElementType::F32 { 256 } else { 128 },
            shared_bytes: shared_bytes(TILES[tiling.kind], self.element),
            overlaps,
        };
        let arguments = [
            x.into(),
            divisor.into(),
            weights.into(),
            bias.into(),
            outputs.into(),
            inputs.into(),
            self.order.pointer().into(),
            self.tiles.pointer().into(),
            y.into(),
        ];
        self.multiply[tiling.kind].launch(device, grid, &arguments)
    }
}

/// The ring of steps of rows and weights, rows padded by 16 bytes; as in the kernels.
fn shared_bytes(tile: usize, element: ElementType) -> usize {
    let rows = tile + TILE_OUTPUTS;
    if element == ElementType::F32 { 2 * rows * (32 + 4) * 4 } else { 3 * rows * (64 + 8) * 2 }
}

/// Refuses experts of sizes that the kernels do not read.
fn check(config: &ModelConfig, experts: Experts, element: ElementType) -> Result<(), EngineError> {
    let multiple = 16 / element.bytes();
    let inputs = [config.hidden, experts.intermediate];
    if experts.count <= MOST_EXPERTS && inputs.iter().all(|inputs| inputs.is_multiple_of(multiple)) {
        return Ok(());
    }
    let (count, [hidden, inside]) = (experts.count, inputs);
    Err(EngineError::invalid(
        format!(
            "{count} experts of {hidden} inputs and width {inside}: the GPU engine runs up to {MOST_EXPERTS}, of multiples of {multiple}"
        ),
        "run with `--engine cpu`, which runs every size",
    ))
}

fn options(config: &ModelConfig, experts: Experts, element: ElementType) -> Options {
    let options = Options::default()
        .with("ELEMENT", element.code())
        .with("HIDDEN", config.hidden)
        .with("EXPERTS", experts.count)
        .with("CHOSEN", experts.chosen)
        .with("NORMALISED", u8::from(experts.normalised))
        .with("SHARED", u8::from(experts.shared.is_some()));
    match config.activation {
        Activation::ClampedSwiglu { alpha, limit } => options
            .with("SWIGLU_ALPHA", format!("{:?}f", alpha as f32))
            .with("SWIGLU_LIMIT", format!("{:?}f", limit as f32)),
        _ => options,
    }
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;
