#ifndef NASSYNC_CLIBXML2_SHIM_H
#define NASSYNC_CLIBXML2_SHIM_H
#include <libxml/xmlversion.h>
/* Debian's headers would include ICU's, whose types differ from those that Foundation brings with it. Nothing here uses them. */
#undef LIBXML_ICU_ENABLED
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/xmlerror.h>

/* XML_SAX2_MAGIC is a cast that Swift does not import; without it libxml2 reports no namespaces. */
static const unsigned int nassync_xml_sax2 = XML_SAX2_MAGIC;
#endif
