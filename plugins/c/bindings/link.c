// The bindings refer to an object file with the type of the component. The linker is given the WIT instead.
void __component_type_object_force_link_processor(void);
void __component_type_object_force_link_processor(void) {}
