"""Following a configuration file, step by step; integration_tests/test_reload.py has the real folders and threads."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import ConfigurationError
from resilience_kit.events import ConfigRejected, ConfigReloaded
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.watch import ConfigWatch, FileFollower


@pytest.fixture
def file(tmp_path):
    """A configuration file with a deadline of 40 s."""
    path = tmp_path / "app.json"
    write(path, 40)
    return path


def write(path, deadline):
    """Have the file say another deadline, or hold a text as it is."""
    path.write_text(deadline if isinstance(deadline, str) else json.dumps({"deadline": deadline}))


@pytest.fixture
def follow(file, clock):
    """Runs a follower over steps: each is done, and its result is what watchfiles would have yielded then."""
    kit = AIServiceResilience(ResilienceSettings(config_file=file), clock=clock)

    def run(*steps):
        stop, seen, left = threading.Event(), [], list(steps)
        kit.add_listener(seen.append, ConfigReloaded, ConfigRejected)

        def changes(folders, stopping):
            watched.append(folders)
            while left:
                yield left.pop(0)() or set()
                told.append((kit.settings.default.deadline, len(seen)))
            stopping.set()

        told, watched = [], []
        FileFollower(kit, changes, stop).run()
        run.watched = watched
        return told

    run.kit = kit
    return run


def nothing():
    """No change."""


def test_a_change_is_obeyed_and_told(follow, file):
    """Also one that nobody reported, when the file is looked at in its turn; what is not new is not told."""
    seen = follow(nothing, nothing, lambda: write(file, 50), lambda: [write(file, 60)], nothing)
    assert [(40.0, 0), (40.0, 0), (50.0, 1), (60.0, 2), (60.0, 2)] == seen


def test_what_happens_beside_the_file_changes_nothing(follow, file):
    """Its folder may be a busy one."""
    assert [(40.0, 0), (40.0, 0)] == follow(nothing, lambda: [(file.parent / "other").write_text("x")])


def test_a_bad_or_missing_file_is_told_once_and_mended(follow, file):
    """The old settings stay meanwhile (invariant 75)."""
    seen = follow(lambda: [write(file, "{")], lambda: ["again"], file.unlink, nothing, lambda: write(file, 70))
    assert [(40.0, 1), (40.0, 1), (40.0, 2), (40.0, 2), (70.0, 3)] == seen


def test_a_file_that_changes_while_it_is_read_is_read_again(follow, file, monkeypatch):
    """Nothing of the first reading counts."""
    reread = ResilienceSettings.reloaded

    def slowly(settings):
        found = reread(settings)
        monkeypatch.undo()
        write(file, 600)
        return found

    monkeypatch.setattr(ResilienceSettings, "reloaded", slowly)
    write(file, 50)
    assert [(40.0, 0), (600.0, 1)] == follow(nothing, nothing)


def test_a_link_that_leads_elsewhere_is_followed(follow, file, tmp_path):
    """Then other folders are watched."""
    (tmp_path / "there").mkdir()
    write(tmp_path / "there" / "real.json", 80)

    def link():
        file.unlink()
        file.symlink_to(tmp_path / "there" / "real.json")

    assert [(80.0, 1)] == follow(link, nothing)
    assert [{tmp_path}, {tmp_path, tmp_path / "there"}] == follow.watched


def test_a_folder_that_is_gone_is_waited_for(follow, file):
    """What watchfiles says of it is no end."""

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            write(file, 90)
            return False

    waits, kit, tries = [], follow.kit, []

    def changes(_folders, stopping):
        tries.append(1)
        if len(tries) == 1:
            raise FileNotFoundError("No path was found")
        stopping.set()
        yield set()

    FileFollower(kit, changes, Stop()).run()
    assert ([1.0], 90.0) == (waits, kit.settings.default.deadline)


def test_a_file_that_is_named_no_longer_is_still_looked_at(follow, file, monkeypatch):
    """The last one that the settings named."""
    without = ResilienceSettings()

    def forget():
        follow.kit.reload(without)

    assert [(30.0, 1), (30.0, 1)] == follow(forget, lambda: [write(file, 50)])


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), True, "1"])
def test_a_wrong_settle_is_a_sentence(follow, wrong):
    """Seconds above zero."""
    with pytest.raises(ConfigurationError, match=r"watch_config\.settle: must be a finite number of seconds above 0"):
        follow.kit.watch_config(settle=wrong)


def test_without_a_file_there_is_nothing_to_watch(kit):
    """A sentence says how to name one."""
    with pytest.raises(ConfigurationError, match="watch_config: needs a file to watch: name it in RESILIENCE_CONFIG_FILE"):
        kit.watch_config()


def test_without_watchfiles_the_extra_is_named(follow, monkeypatch):
    """And nothing is started."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    before = threading.active_count()
    with pytest.raises(ConfigurationError, match=r"needs watchfiles: pip install 'ai-resilience-kit\[watch\]'"):
        follow.kit.watch_config()
    assert before == threading.active_count()


def test_a_watch_ends_with_its_block(follow, file, monkeypatch):
    """Its thread is gone then; to stop it twice, or from within, does no harm."""
    asked = {}

    def changes(*folders, stop_event, **options):
        asked.update(options, folders=folders)
        write(file, 50)
        yield {"changed"}
        stop_event.wait()

    stopped = threading.Event()

    def stop(_event):
        started.wait()
        watch.stop()
        stopped.set()

    started = threading.Event()
    monkeypatch.setattr("watchfiles.watch", changes)
    follow.kit.add_listener(stop, ConfigReloaded)
    with follow.kit.watch_config(settle=0.02) as watch:
        assert isinstance(watch, ConfigWatch)
        started.set()
        assert stopped.wait(20)
    assert not watch._thread.is_alive()
    watch.stop()
    assert ((file.parent,), False, 20, True) == (
        asked["folders"],
        asked["recursive"],
        asked["step"],
        asked["yield_on_timeout"],
    )
