"""The page's tests in Node and in a browser: what they need, and how they are run."""

import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "page"
CHROMIUM = shutil.which("chromium")

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not (PAGE / "node_modules" / "esbuild").is_dir(),
    reason="needs Node.js and the page's packages: npm ci --prefix page",
)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="needs chromium, on Debian: apt-get install chromium"
)


def run_node(script: str, *arguments: object) -> str:
    """Runs a script of the page; returns what it prints."""
    command = ["node", str(PAGE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def compile_kernels(file: Path) -> None:
    """Compiles the engine's arithmetic."""
    source = f"import {{ compileKernels }} from {str(PAGE / 'compile_kernels.mjs')!r};"
    code = f"{source} compileKernels({str(file)!r});"
    subprocess.run(["node", "--input-type=module", "-e", code], check=True, timeout=300)
