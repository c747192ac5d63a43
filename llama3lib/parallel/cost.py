"""Time of a training step and what each link carries, before anything runs.

FLOPs are the model's: 6 for each weight in a product and token, attention over the causal half;
what is computed again is work but not counted (as in MFU). The times are a model with a few
assumptions, told by `ASSUMPTIONS` and the hardware file; the paper's projector is not published.
"""

from dataclasses import dataclass

from llama3lib.model import ModelArgs
from llama3lib.model.flops import count_parameters, flops_per_token
from llama3lib.parallel.hardware import Hardware, Link
from llama3lib.parallel.layout import Layout, stage_layers
from llama3lib.parallel.memory import BF16, FP32, rank_parameters

_FLASH_BACKWARD = 2.5  # fused attention computes its scores again: 5 products for 2 forward

ASSUMPTIONS = (
    "FLOPs: 6 for each weight in a product and token, the causal half of attention; nothing twice",
    "all work is products and attention, each at its share of the peak; the optimizer takes no "
    "time",
    "TP: GPUs wait for 4 collectives a block and pass; 2 more backward hide behind products",
    "CP: GPUs wait for keys and values, gathered forward and backward, and for their gradients",
    "PP: messages hide behind a stage's computing, but not in the bubble",
    "FSDP: BF16 weights gathered and FP32 gradients reduced once a step; GPUs wait for one layer's",
    "memory: BF16 weights, FP32 gradients kept whole, FP32 weights and moments sharded",
    "the pipeline is balanced but for its ends; no stragglers, no waiting for data",
)
"""What a prediction takes for granted."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one GPU sends along one dimension in a step."""

    link: str
    sent: float
    """Bytes."""
    waits: float
    """Seconds in which nothing is computed."""

    def times(self, sent: float, waits: float) -> "Traffic":
        """So many of them."""
        return Traffic(link=self.link, sent=sent * self.sent, waits=waits * self.waits)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One step of a layout: seconds by what they go into, and what the links carry."""

    products: float
    attention: float
    recompute: float
    imbalance: float
    """Waiting for the pipeline rank that has most to do."""
    bubble: float
    traffic: dict[str, Traffic]
    flops: float
    """The model's in the whole step, on all GPUs."""
    gpus: int

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of the step by what they go into."""
        names = ("products", "attention", "recompute", "imbalance", "bubble")
        waits = {f"{name} waits": traffic.waits for name, traffic in self.traffic.items()}
        return {name: getattr(self, name) for name in names} | waits

    @property
    def seconds(self) -> float:
        """The whole step."""
        return sum(self.parts.values())

    @property
    def tflops(self) -> float:
        """TFLOPs a second of each GPU, as in Table 4."""
        return self.flops / self.seconds / self.gpus / 1e12

    def mfu(self, hardware: Hardware) -> float:
        """Share of the peak."""
        return self.tflops / hardware.peak_tflops


def step_cost(args: ModelArgs, layout: Layout, sequence: int, hardware: Hardware) -> Cost:
    """Predicted time of one step; `layout.check` must have passed."""
    count, peak = count_parameters(args), hardware.peak_tflops * 1e12
    tokens = layout.sequences * sequence / layout.cp / layout.tp  # of a micro-batch on a GPU
    matrix = 2 * tokens / (peak * hardware.product_efficiency)  # seconds for each weight, forward
    products = matrix * (count.attention + count.feed_forward) / args.n_layers
    attention = 2 * args.n_heads * args.head_dim * (sequence + 1) * tokens
    attention /= peak * hardware.attention_efficiency
    again = int(layout.recompute == "full")
    # the stream is gathered and reduced around both halves of a block; keys and values once
    stream = BF16 * tokens * layout.tp * args.dim
    tp = _ring(stream, layout.tp, hardware.link(layout.reach["TP"]))
    pairs = BF16 * 2 * args.n_kv_heads * args.head_dim * tokens * layout.cp
    cp = _ring(pairs, layout.cp, hardware.link(layout.reach["CP"]))
    tp, cp = tp.times(10 + 4 * again, 8 + 4 * again), cp.times(3 + again, 3 + again)
    block = (3 + again) * products + (1 + _FLASH_BACKWARD + again) * attention + tp.waits + cp.waits
    head = 3 * matrix * args.vocab_size * args.dim

    m, pp = layout.micro_batches, layout.pp
    work = [sum(n) * block for n in stage_layers(args.n_layers, pp, layout.stages)]
    work[-1] += head
    mean, most = sum(work) / pp, max(work)
    blocks = m * args.n_layers / pp  # of one rank in a step, on average
    return Cost(
        products=blocks * 3 * products + m * head / pp,
        attention=blocks * (1 + _FLASH_BACKWARD) * attention,
        recompute=blocks * again * (products + attention),
        imbalance=m * (most - mean),
        bubble=layout.bubble * m * most,
        traffic={
            "TP": tp.times(blocks, blocks),
            "CP": cp.times(blocks, blocks),
            "PP": _pipeline(stream, layout, hardware, computing=most),
            "DP": _data(args, layout, hardware, computing=m * mean),
        },
        flops=layout.batch_sequences * sequence * flops_per_token(args, sequence).training,
        gpus=layout.gpus,
    )


def _ring(full: float, ranks: int, link: Link) -> Traffic:
    """To gather or to reduce `full` bytes over so many ranks."""
    sent = full * (ranks - 1) / ranks
    waits = sent / link.bytes_per_second + (ranks - 1) * link.latency
    return Traffic(link=link.name, sent=sent, waits=waits)


def _pipeline(stream: float, layout: Layout, hardware: Hardware, computing: float) -> Traffic:
    """Streams to the next stage and gradients back; `computing`: seconds for a micro-batch."""
    link = hardware.link(layout.reach["PP"])
    if layout.pp == 1:
        return Traffic(link=link.name, sent=0.0, waits=0.0)
    message, number = stream / layout.tp, layout.stages * layout.micro_batches
    both = 2 * (message / link.bytes_per_second + link.latency)
    too_slow = number * max(0.0, both - computing / layout.stages)
    waits = (layout.pp - 1) * both + too_slow
    return Traffic(link=link.name, sent=2 * number * message, waits=waits)


def _data(args: ModelArgs, layout: Layout, hardware: Hardware, computing: float) -> Traffic:
    """FSDP: weights gathered, gradients reduced; all but one layer's share behind computing."""
    link, layers = hardware.link(layout.reach["DP"]), max(1, args.n_layers // layout.pp)
    parameters = max(rank_parameters(args, layout, rank) for rank in (0, layout.pp - 1)) / layers
    gathers = 2 * layout.micro_batches if layout.reshard else 1
    gather = _ring(BF16 * parameters, layout.shards, link)
    reduce = _ring(FP32 * parameters, layout.shards, link)
    behind = (gathers * layers - 1) * gather.waits + (layers - 1) * reduce.waits
    waits = gather.waits + reduce.waits + max(0.0, behind - computing)
    sent = layers * (gathers * gather.sent + reduce.sent)
    return Traffic(link=link.name, sent=sent, waits=waits)


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a whole run takes. `price` is 0 where the hardware file gives none."""

    gpu_hours: float
    days: float
    mwh: float
    t_co2: float
    price: float


def bill(cost: Cost, batch_tokens: int, tokens: float, hardware: Hardware) -> Bill:
    """Steps until `tokens` are seen, over the share of the time that is useful."""
    days = tokens / batch_tokens * cost.seconds / 86_400 / hardware.effective_time
    hours = 24 * days * cost.gpus
    mwh = hours * hardware.watts * hardware.power_overhead / 1e6
    t_co2, price = mwh * hardware.t_co2_per_mwh, hours * hardware.price_per_gpu_hour
    return Bill(gpu_hours=hours, days=days, mwh=mwh, t_co2=t_co2, price=price)
