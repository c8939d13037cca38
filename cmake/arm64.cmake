# For ARM64, on any Debian machine: Debian's cross compiler, and our libraries' arm64 packages unpacked in a folder of their own
# (scripts/sysroot), which compiler, CMake and qemu-user take for "/". './dev build arm64' sets all of it up.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

if(NOT IS_DIRECTORY "$ENV{CELSLM_CACHE}/arm64")
  message(FATAL_ERROR "expected the libraries' arm64 packages in '$ENV{CELSLM_CACHE}/arm64' (CELSLM_CACHE): './dev setup arm64' unpacks them there")
endif()
set(CMAKE_SYSROOT "$ENV{CELSLM_CACHE}/arm64")

set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig")

set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${CMAKE_SYSROOT}")  # QEMU_CPU chooses the processor
