"""The extension with a real web UI's loader, settings and callbacks; runs where KONOMI_WEBUI names a folder of one.

A1111 and Forge start for minutes and want a checkpoint. What an extension meets of them are three modules
(script_loading, script_callbacks, options), which run here as they are; what these import beside is left out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.web.site import ROOT

WEBUI = os.environ.get("KONOMI_WEBUI", "")
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not WEBUI, reason="KONOMI_WEBUI names no folder of A1111's or Forge's web UI"),
]
HOST = """
import importlib.util, json, sys, types
from pathlib import Path
from unittest import mock

webui, extension = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("gradio", "fastapi"):
    sys.modules[name] = mock.MagicMock()
modules = types.ModuleType("modules")
modules.__path__ = []
sys.modules["modules"] = modules

def hold(name, module):
    sys.modules["modules." + name] = module
    setattr(modules, name, module)
    return module

for name in ("timer", "extensions", "util", "ui_components", "shared_items"):
    hold(name, mock.MagicMock())
modules.extensions.find_extension.return_value = None
hold("shared_cmd_options", types.SimpleNamespace(cmd_opts=mock.MagicMock(freeze_settings=False)))
hold("paths_internal", types.SimpleNamespace(script_path=str(webui)))

def real(name):
    spec = importlib.util.spec_from_file_location("modules." + name, webui / "modules" / (name + ".py"))
    module = hold(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module

real("errors")
options = real("options")
opts = options.Options({}, set())
opts.callback_order = []
shared = hold("shared", types.SimpleNamespace(opts=opts, OptionInfo=options.OptionInfo, cmd_opts=mock.MagicMock()))
callbacks = real("script_callbacks")
callbacks.ordered_callbacks = lambda category, *_, **__: callbacks.callback_map["callbacks_" + category]
loading = real("script_loading")

sys.path.insert(0, str(extension))  # as load_scripts does with the root of an extension, for that script alone
loading.load_module(str(extension / "scripts" / "konomi_score.py"))
sys.path.remove(str(extension))
callbacks.ui_settings_callback()

from PIL import Image
infotext = "a cat\\nSteps: 20, Sampler: Euler, Seed: 1"
said = []
for enabled in (True, False):
    opts.data["konomi_enabled"] = enabled
    params = callbacks.ImageSaveParams(Image.new("RGB", (64, 64), "red"), None, "x.png", {"parameters": infotext})
    callbacks.before_image_saved_callback(params)
    said.append(params.pnginfo["parameters"])
page = [key for key, info in opts.data_labels.items() if info.section[0] == "konomi"]
faults = modules.errors.exception_records
print(json.dumps({"said": said, "page": page, "address": opts.konomi_address, "faults": faults}))
"""


def test_it_is_loaded_set_and_called_as_the_web_ui_does(site, token, tmp_path):
    host = tmp_path / "host.py"
    host.write_text(HOST)
    environment = os.environ | {"KONOMI_HOME": str(site.home.root), "KONOMI_PAGE": site.address}
    command = [sys.executable, str(host), WEBUI, str(Path(ROOT, "clients", "a1111"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["faults"] == [] and said["address"] == site.address
    assert said["page"] == ["konomi_enabled", "konomi_address", "konomi_taste", "konomi_seconds"]
    marked, plain = said["said"]
    assert "konomi utility: " in marked and plain == "a cat\nSteps: 20, Sampler: Euler, Seed: 1"
