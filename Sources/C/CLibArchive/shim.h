#ifndef NASSYNC_CLIBARCHIVE_SHIM_H
#define NASSYNC_CLIBARCHIVE_SHIM_H
#include <archive.h>
#include <archive_entry.h>
#endif
