import json

import pytest

from convnets.benchmark.archiving import require_writable, write_json
from convnets.errors import UserError


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "new" / "found.json"
    require_writable(path)
    assert list(path.parent.iterdir()) == []
    write_json(path, {"ratio": 1.0})
    assert json.loads(path.read_text()) == {"ratio": 1.0}
    write_json(str(path), {"ratio": 2.0})
    assert json.loads(path.read_text()) == {"ratio": 2.0}
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_is_refused_before_and_after(tmp_path):
    (tmp_path / "file").write_text("")
    for function in (require_writable, lambda path: write_json(path, {})):
        with pytest.raises(UserError, match="cannot write to .*Not a directory|File exists"):
            function(tmp_path / "file" / "found.json")
    with pytest.raises(UserError, match="it is a folder"):
        require_writable(tmp_path)
