"""More work than one device can hold, or than one should do.

- `ParallelDims`: how many ranks share what, and the mesh of them
- `parallelize`: a model on a mesh; `apply_tp`, `apply_cp`, `split_pipeline`, `apply_fsdp` and
  `apply_activation_checkpointing` are its steps
- `pipeline_order`, `simulate`: pipeline schedules and when their actions run; no process needed
- `planner`, `memory`, `cost`, `hardware`, `failures`: a run before it runs, by arithmetic
- `launch`: ranks on this machine, from a notebook or a test
"""

from llama3lib.utils.lazy import lazy_names

__all__ = [
    "Action",
    "ParallelDims",
    "ParallelModel",
    "ParallelPlan",
    "Timeline",
    "apply_activation_checkpointing",
    "apply_cp",
    "apply_fsdp",
    "apply_tp",
    "cut_sequence",
    "join_sequence",
    "make_stage",
    "parallelize",
    "pipeline_order",
    "simulate",
    "split_pipeline",
]

# torch.distributed takes seconds to import; who only looks at a schedule shall not wait
__getattr__ = lazy_names(
    __name__,
    {
        "activation": ("apply_activation_checkpointing",),
        "context": ("apply_cp", "cut_sequence", "join_sequence"),
        "data": ("apply_fsdp",),
        "dims": ("ParallelDims",),
        "model": ("ParallelModel", "ParallelPlan", "parallelize"),
        "schedules": ("Action", "Timeline", "pipeline_order", "simulate"),
        "stages": ("make_stage", "split_pipeline"),
        "tensor": ("apply_tp",),
    },
)
