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
    block, head = _block(args, layout, sequence, hardware), _head(args, layout, sequence, hardware)
    m, pp = layout.micro_batches, layout.pp
    layers = [sum(one) for one in stage_layers(args.n_layers, pp, layout.stages)]
    work = [n * block.seconds for n in layers]
    work[-1] += head
    mean, most = sum(work) / pp, max(work)
    blocks = m * args.n_layers / pp  # of one rank in a step, on average
    traffic = {
        name: Traffic(link=one.link, sent=blocks * one.sent, waits=blocks * one.waits)
        for name, one in block.traffic.items()
    }
    traffic["PP"] = _pipeline(args, layout, sequence, hardware, most)
    traffic["DP"] = _data(args, layout, hardware, computing=m * mean)
    return Cost(
        products=blocks * block.products + m * head / pp,
        attention=blocks * block.attention,
        recompute=blocks * block.recompute,
        imbalance=m * (most - mean),
        bubble=layout.bubble * m * most,
        traffic=traffic,
        flops=layout.batch_sequences * sequence * flops_per_token(args, sequence).training,
        gpus=layout.gpus,
    )


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One block, one micro-batch, forward and backward: seconds on one GPU, and its messages."""

    products: float
    attention: float
    recompute: float
    traffic: dict[str, Traffic]

    @property
    def seconds(self) -> float:
        waits = sum(one.waits for one in self.traffic.values())
        return self.products + self.attention + self.recompute + waits


def _block(args: ModelArgs, layout: Layout, sequence: int, hardware: Hardware) -> _Block:
    count, width = count_parameters(args), args.n_heads * args.head_dim
    weights = (count.attention + count.feed_forward) / args.n_layers
    tokens = layout.sequences * sequence / layout.cp  # in and behind a TP group
    peak = hardware.peak_tflops * 1e12
    products = 2 * weights * tokens / layout.tp / (peak * hardware.product_efficiency)
    attention = 2 * width * (sequence + 1) * tokens / layout.tp
    attention /= peak * hardware.attention_efficiency
    passes = 3 if layout.recompute == "full" else 2  # forward, perhaps again, backward
    again = passes - 2
    stream = BF16 * tokens * args.dim
    tp_sent, tp_waits = _collective(stream, layout.tp, hardware.link(layout.reach["TP"]))
    gathered = BF16 * 2 * args.n_kv_heads * args.head_dim / layout.tp * tokens * layout.cp
    cp_sent, cp_waits = _collective(gathered, layout.cp, hardware.link(layout.reach["CP"]))
    return _Block(
        products=3 * products,
        attention=(1 + _FLASH_BACKWARD) * attention,
        recompute=again * (products + attention),
        traffic={
            "TP": Traffic(
                link=hardware.link(layout.reach["TP"]).name,
                sent=(4 * passes + 2) * tp_sent,
                waits=4 * passes * tp_waits,
            ),
            "CP": Traffic(
                link=hardware.link(layout.reach["CP"]).name,
                sent=(3 + again) * cp_sent,
                waits=(3 + again) * cp_waits,
            ),
        },
    )


def _head(args: ModelArgs, layout: Layout, sequence: int, hardware: Hardware) -> float:
    """Seconds of the output matrix for one micro-batch, forward and backward."""
    tokens = layout.sequences * sequence / layout.cp / layout.tp
    rate = hardware.peak_tflops * 1e12 * hardware.product_efficiency
    return 6 * args.vocab_size * args.dim * tokens / rate


def _collective(full: float, ranks: int, link: Link) -> tuple[float, float]:
    """Bytes that a rank sends, and seconds, to gather or reduce `full` bytes round a ring."""
    sent = full * (ranks - 1) / ranks
    return sent, sent / link.bytes_per_second + (ranks - 1) * link.latency


def _pipeline(
    args: ModelArgs, layout: Layout, sequence: int, hardware: Hardware, computing: float
) -> Traffic:
    """Streams to the next stage and gradients back; `computing`: seconds for a micro-batch."""
    link = hardware.link(layout.reach["PP"])
    if layout.pp == 1:
        return Traffic(link=link.name, sent=0.0, waits=0.0)
    message = BF16 * args.dim * layout.sequences * sequence / layout.cp / layout.tp
    both = 2 * (message / link.bytes_per_second + link.latency)
    number = layout.stages * layout.micro_batches
    too_slow = number * max(0.0, both - computing / layout.stages)
    return Traffic(
        link=link.name, sent=2 * number * message, waits=(layout.pp - 1) * both + too_slow
    )


def _data(args: ModelArgs, layout: Layout, hardware: Hardware, computing: float) -> Traffic:
    """FSDP: weights gathered, gradients reduced; all but one layer's share behind computing."""
    link = hardware.link(layout.reach["DP"])
    layers = max(1, args.n_layers // layout.pp)
    parameters = max(rank_parameters(args, layout, rank) for rank in (0, layout.pp - 1))
    gathers = 2 * layout.micro_batches if layout.reshard else 1
    sent = seconds = 0.0
    for number, width in ((gathers, BF16), (1, FP32)):
        each = _collective(width * parameters / layers, layout.shards, link)
        sent, seconds = sent + number * layers * each[0], seconds + number * layers * each[1]
    first_or_last = seconds / layers / max(1, gathers)
    return Traffic(
        link=link.name,
        sent=sent,
        waits=first_or_last + max(0.0, seconds - first_or_last - computing),
    )


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
    hours = tokens / batch_tokens * cost.seconds / 3600 / hardware.effective_time
    mwh = hours * cost.gpus * hardware.watts * hardware.power_overhead / 1e6
    return Bill(
        gpu_hours=hours * cost.gpus,
        days=hours / 24,
        mwh=mwh,
        t_co2=mwh * hardware.t_co2_per_mwh,
        price=hours * cost.gpus * hardware.price_per_gpu_hour,
    )
