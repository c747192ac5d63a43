"""The machine: hardware, parallelism, interruptions (§3.3, Tables 4 and 5)."""

from llama3lib.paper.facts import Fact, Table

GPUS = Fact(16_384, "H100 GPUs", "§3.3.1", note='printed as "up to 16K"')
GPU_POWER = Fact(700, "W", "§3.3.1")
GPU_MEMORY = Fact(80, "GB", "§3.3.1", note="HBM3")
GPUS_PER_SERVER = Fact(8, "GPUs", "§3.3.1", note="linked by NVLink")
GPUS_PER_RACK = Fact(16, "GPUs", "§3.3.1")
RACKS_PER_POD = Fact(192, "racks", "§3.3.1")
PODS = Fact(8, "pods", "§3.3.1")
OVERSUBSCRIPTION = Fact("1:7", "", "§3.3.1", note="above the pods")
NETWORK_405B = Fact("RoCE", "", "§3.3.1")
NETWORK_SMALLER = Fact("InfiniBand", "", "§3.3.1")
LINK_SPEED = Fact(400, "Gbps per GPU", "§3.3.1")
STORAGE = Fact(240, "PB", "§3.3.1", note="on 7,500 servers")
STORAGE_SPEED = Fact((2, 7), "TB/s, sustained and peak", "§3.3.1")
BF16_PEAK = Fact(989.4, "TFLOPs per GPU", "data sheet of the H100", "computed")

TABLE_4 = Table(
    title="Scaling configurations and MFU",
    section="§3.3.2, Table 4",
    columns=(
        "GPUs",
        "TP",
        "CP",
        "PP",
        "DP",
        "sequence",
        "batch/DP",
        "tokens/batch",
        "TFLOPs/GPU",
        "MFU",
    ),
    rows={
        "8K sequences, 8,192 GPUs": (8192, 8, 1, 16, 64, 8192, 32, 16_000_000, 430, 0.43),
        "8K sequences, 16,384 GPUs": (16_384, 8, 1, 16, 128, 8192, 16, 16_000_000, 400, 0.41),
        "128K sequences": (16_384, 8, 16, 16, 8, 131_072, 16, 16_000_000, 380, 0.38),
    },
    reliability="paper v3",
)
TABLE_4_ROW_3_DP_EARLY = Fact(
    4, "DP", "§3.3.2, Table 4", "paper v1", "the product of the four is then 8,192 of 16,384 GPUs"
)
ORDER = Fact(("TP", "CP", "PP", "DP"), "", "§3.3.2", note="innermost first")
BUBBLE = Fact("(PP - 1) / (V · M)", "of the useful time", "§3.3.2")

TABLE_5 = Table(
    title="Causes of unexpected interruptions in 54 days",
    section="§3.3.4, Table 5",
    columns=("category", "count", "printed %"),
    rows={
        "Faulty GPU": ("GPU", 148, 30.1),
        "GPU HBM3 memory": ("GPU", 72, 17.2),
        "Software bug": ("Dependency", 54, 12.9),
        "Network switch/cable": ("Network", 35, 8.4),
        "Host maintenance": ("Unplanned maintenance", 32, 7.6),
        "GPU SRAM memory": ("GPU", 19, 4.5),
        "GPU system processor": ("GPU", 17, 4.1),
        "NIC": ("Host", 7, 1.7),
        "NCCL watchdog timeouts": ("Unknown", 7, 1.7),
        "Silent data corruption": ("GPU", 6, 1.4),
        "GPU thermal interface + sensor": ("GPU", 6, 1.4),
        "SSD": ("Host", 3, 0.7),
        "Power supply": ("Host", 3, 0.7),
        "Server chassis": ("Host", 2, 0.5),
        "IO expansion board": ("Host", 2, 0.5),
        "Dependency": ("Dependency", 2, 0.5),
        "CPU": ("Host", 2, 0.5),
        "System memory": ("Host", 2, 0.5),
    },
    note="148 of 419 is 35.3 %, not 30.1; the printed shares sum to 94.9. Plot the counts.",
)
INTERRUPTIONS = Fact(466, "interruptions", "§3.3.4")
PLANNED = Fact(47, "interruptions", "§3.3.4")
UNEXPECTED = Fact(419, "interruptions", "§3.3.4")
SNAPSHOT = Fact(54, "days", "§3.3.4", note="a window of observation, not the training time")
EFFECTIVE_TIME = Fact(0.90, "of the time, more than", "§3.3.4")
MANUAL = Fact(3, "major interventions by hand", "§3.3.4")
HARDWARE_SHARE = Fact(0.78, "of the unexpected ones, about", "§3.3.4")
GPU_SHARE_PRINTED = Fact(0.587, "of the unexpected ones", "§3.3.4")
DIURNAL = Fact((0.01, 0.02), "of throughput, with the heat of the day", "§3.3.4")
GPU_HOURS = Table(
    title="GPU-hours of training",
    section="Llama 3.1 model card",
    columns=("8B", "70B", "405B"),
    rows={"GPU-hours": (1_460_000, 7_000_000, 30_840_000)},
    reliability="card",
)
