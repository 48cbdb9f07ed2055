/* Classifies images of digits: cc -O2 classify.c libdigits.so -o classify && LD_LIBRARY_PATH=. ./classify < images.bin

   An image is 64 numbers of type float, from 0 to 16. For each one the program prints the digit and the probabilities of all. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

int main(void) {
    float image[64], probabilities[10];
    void *workspace = malloc(digits_workspace_size()); /* once, for all calls of this thread */
    if (workspace == NULL) return 1;
    while (fread(image, sizeof image, 1, stdin) == 1) {
        int error = digits_predict(image, probabilities, workspace);
        if (error != 0) {
            fprintf(stderr, "digits_predict: error %d\n", error);
            return 1;
        }
        int best = 0;
        for (int i = 1; i < 10; i++)
            if (probabilities[i] > probabilities[best]) best = i;
        printf("%d:", best);
        for (int i = 0; i < 10; i++) printf(" %.9g", probabilities[i]);
        printf("\n");
    }
    free(workspace);
    return 0;
}
