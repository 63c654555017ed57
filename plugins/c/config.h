// What the operator wrote into the plugin's table.
#ifndef TIDEGATE_CONFIG_H
#define TIDEGATE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

enum { TEXT_MAX = 1024 };

struct config {
  char key[TEXT_MAX];
  size_t key_length;
  char value[TEXT_MAX];
  size_t value_length;
  uint64_t drop_below;
};

// Reads a flat JSON object. What is wrong with it, or NULL.
const char *read_config(struct config *config, const char *json, size_t length);

#endif
