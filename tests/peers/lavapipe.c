/* Mesa's lavapipe in the place of Chromium's own SwiftShader.
 *
 * Headless Chromium takes a software adapter for WebGPU only if it is SwiftShader, which it loads
 * by the name of a library and knows by its ids. This library hands every call on to LOADER, the
 * system's and not the browser's own, which LAVAPIPE restricts to one driver, and changes the two
 * ids. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

enum { GOOGLE = 0x1ae0, SWIFTSHADER = 0xc0de };

static PFN_vkGetInstanceProcAddr find;
static PFN_vkGetPhysicalDeviceProperties properties_of;
static PFN_vkGetPhysicalDeviceProperties2 properties2_of;

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice device,
                                             VkPhysicalDeviceProperties *out) {
    properties_of(device, out);
    out->vendorID = GOOGLE;
    out->deviceID = SWIFTSHADER;
}

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice device,
                                              VkPhysicalDeviceProperties2 *out) {
    properties2_of(device, out);
    out->properties.vendorID = GOOGLE;
    out->properties.deviceID = SWIFTSHADER;
}

__attribute__((visibility("default"))) PFN_vkVoidFunction
vkGetInstanceProcAddr(VkInstance instance, const char *name) {
    if (find == NULL) {
        setenv("VK_DRIVER_FILES", LAVAPIPE, 1);
        setenv("VK_ICD_FILENAMES", LAVAPIPE, 1);
        void *loader = dlopen(LOADER, RTLD_NOW | RTLD_LOCAL);
        if (loader == NULL)
            return NULL;
        find = (PFN_vkGetInstanceProcAddr)dlsym(loader, "vkGetInstanceProcAddr");
    }
    PFN_vkVoidFunction found = find(instance, name);
    if (found == NULL)
        return NULL;
    if (strcmp(name, "vkGetPhysicalDeviceProperties") == 0) {
        properties_of = (PFN_vkGetPhysicalDeviceProperties)found;
        return (PFN_vkVoidFunction)properties;
    }
    if (strcmp(name, "vkGetPhysicalDeviceProperties2") == 0 ||
        strcmp(name, "vkGetPhysicalDeviceProperties2KHR") == 0) {
        properties2_of = (PFN_vkGetPhysicalDeviceProperties2)found;
        return (PFN_vkVoidFunction)properties2;
    }
    return found;
}
