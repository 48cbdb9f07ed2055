"""Write nbkeras/serving/open_inference.binpb, the descriptor of open_inference.proto.

pip install grpcio-tools                        it has protoc
python scripts/make_grpc_messages.py            write the file
python scripts/make_grpc_messages.py --check    check whether it is up to date; the exit code is 1 if not

The file is a FileDescriptorProto and no Python module: a module made by protoc registers its messages in the pool that all
packages share, and needs a protobuf that is at least as new as protoc.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
SOURCE = "nbkeras/serving/open_inference.proto"  # also the name that clients see by reflection
TARGET = ROOT / "nbkeras" / "serving" / "open_inference.binpb"


def made() -> bytes:
    """The descriptor that protoc makes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / TARGET.name
        if protoc.main(["protoc", f"--proto_path={ROOT}", f"--descriptor_set_out={file}", str(ROOT / SOURCE)]) != 0:
            raise SystemExit(f"protoc cannot compile {SOURCE}")
        return FileDescriptorSet.FromString(file.read_bytes()).file[0].SerializeToString(deterministic=True)


def main() -> int:
    content = made()
    if "--check" in sys.argv[1:]:
        return int(content != TARGET.read_bytes())
    TARGET.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
