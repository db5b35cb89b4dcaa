# Built like the example plug-in, whose headers it uses: the folders stand side by side.
from infinicore.build import setup_backend

setup_backend(
    "faulty",
    vendor="Faulty",
    sources=["src/infinicore_faulty/backend.cpp"],
    include_dirs=["../example/src/infinicore_example"],
)
