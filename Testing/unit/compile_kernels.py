"""Compile what most tests need, by a refinement in the small world; two processes that begin together would each do it.

python Testing/unit/compile_kernels.py
"""

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from small_world import World, world_patient

from TumorQueryLib.inference import infer

with TemporaryDirectory() as folder, redirect_stderr(StringIO()), redirect_stdout(StringIO()):
    world = World.build(Path(folder))
    infer(world_patient(), world.method(refine_solves=2, uncertainty=True))
