#pragma once

#include <fcntl.h>
#include <signal.h>

// glibc 2.36 (Debian 12) forgot to say so itself.
extern "C" {
#include <sys/pidfd.h>
}
