#!/bin/sh
# What VTK (EGL, software rendering) and Qt need to draw off screen: installed where this runs as root and apt is
# there, named in one sentence elsewhere. Never fails: the tests that render skip by name, and fail where CI=true.
set -u
packages="libgl1 libegl1 libegl-mesa0 libgl1-mesa-dri libglx-mesa0 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 fonts-dejavu-core"

[ "$(uname -s)" = Linux ] || exit 0

missing=""
for library in libGL.so.1 libEGL.so.1 libEGL_mesa.so.0 libxkbcommon.so.0 libdbus-1.so.3 libfontconfig.so.1 libglib-2.0.so.0; do
    if ! { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q "$library"; then
        missing="$missing $library"
    fi
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Ubuntu 24.04 and later name glib libglib2.0-0t64, which provides the old name.
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; then
        exit 0
    fi
fi
echo "Off-screen rendering needs the libraries$missing (on Debian or Ubuntu: apt-get install $packages); without them the tests that render are skipped." >&2
exit 0
