# find_package(infinicore): targets infinicore::rt, infinicore::op, infinicore::ccl, and infinicore::infinicore for
# all three. The folder of this file is what `python -m infinicore cmake` prints: pass it as infinicore_DIR.
get_filename_component(INFINICORE_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET infinicore::infinicore)
  foreach(part rt op ccl)
    add_library(infinicore::${part} SHARED IMPORTED)
    set_target_properties(infinicore::${part} PROPERTIES
      IMPORTED_LOCATION "${INFINICORE_ROOT}/lib/libinfini${part}.so"
      IMPORTED_SONAME "libinfini${part}.so"
      INTERFACE_INCLUDE_DIRECTORIES "${INFINICORE_ROOT}/include")
  endforeach()
  foreach(part op ccl)
    set_property(TARGET infinicore::${part} PROPERTY INTERFACE_LINK_LIBRARIES infinicore::rt)
  endforeach()
  add_library(infinicore::infinicore INTERFACE IMPORTED)
  set_property(TARGET infinicore::infinicore PROPERTY
    INTERFACE_LINK_LIBRARIES "infinicore::rt;infinicore::op;infinicore::ccl")
endif()
set(infinicore_FOUND TRUE)
