"""What builds are told of pip, as it is set up here."""

from __future__ import annotations

from support.docker_base import pip_conf, pip_settings

LISTED = """\
:env:.cert='/etc/certificates.crt'
:env:.find-links='/opt/wheels'
:env:.no-input='1'
global.cert='/etc/others.crt'
global.extra-index-url='file:///opt/simple https://packages.example/simple'
global.index-url='https://mirror.example/simple'
install.trusted-host='mirror.example'
"""


def test_builds_use_this_machines_index_and_none_of_its_folders() -> None:
    """The environment wins over files; what is a path here is none in the image."""
    assert pip_settings(LISTED) == {
        "index-url": "https://mirror.example/simple",
        "trusted-host": "mirror.example",
        "cert": "/etc/certificates.crt",
        "extra-index-url": "https://packages.example/simple",
    }
    assert pip_settings("") == {}
    assert pip_settings("global.extra-index-url='file:///opt/simple'\n") == {}


def test_the_settings_are_written_as_pip_reads_them() -> None:
    """One section, one setting a line."""
    assert pip_conf({"cert": "/c", "find-links": "/w"}) == "[global]\ncert = /c\nfind-links = /w\n"
