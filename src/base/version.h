/*
 * version.h
 *		The library's version; equal to the control file's default_version.
 */
#ifndef REPUTATION_VERSION_H
#define REPUTATION_VERSION_H

#define REPUTATION_VERSION	"1.0"

#endif							/* REPUTATION_VERSION_H */
