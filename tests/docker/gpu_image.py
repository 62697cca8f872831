"""`make docker-gpu-image`: builds the GPU image and reports its size; needs no GPU.

Needs 35 GB of disk. `--write` puts the output into docs/deploy.md.
"""

from pathlib import Path

from tests.docker.engine import Engine, base_image
from tests.docker.image import (
    IMAGE,
    build,
    check_image,
    copy_of_repository,
    in_image,
    package_sources,
)
from tests.docker.report import run, say, timed

IMPORTS = "import open_clip, torch, trl, vllm; print(torch.__version__, vllm.__version__)"


def build_and_look(docker: Engine, work: Path) -> None:
    folder = work / work.name
    copy_of_repository(folder)
    base = base_image(docker, work)
    try:
        with package_sources(work) as secret_files, timed(f"build of the gpu target on {base}"):
            build(docker, folder, base, secret_files, target="gpu")
        check_image(docker, base, compilers=("cc", "gcc"))  # for Triton
        say("torch and vllm: " + in_image(docker, f'python -c "{IMPORTS}" 2>/dev/null'))
        say("grape serve, without a GPU: " + in_image(docker, "grape serve 2>&1 | tail -1"))
    finally:
        docker.docker("image", "rm", "--force", IMAGE, check=False)


if __name__ == "__main__":
    run("docker-gpu-image", build_and_look)
